"""`exit_after_jobs`: how many jobs this service may still take."""

from __future__ import annotations

import asyncio


class Quota:
    """A bound on the jobs of this run of the service; 0: none. What is asked for counts until it turns out empty."""

    def __init__(self) -> None:
        self._bound = 0
        self._taken = 0
        self._asking = 0
        self._room = asyncio.Event()

    @property
    def is_used_up(self) -> bool:
        return 0 < self._bound <= self._taken

    def set_bound(self, jobs: int) -> None:
        self._bound = jobs
        self._room.set()

    async def ask(self) -> None:
        """Wait until one more job may be asked for."""
        while self._bound and self._taken + self._asking >= self._bound:
            self._room.clear()
            await self._room.wait()
        self._asking += 1

    def answered(self, *, is_job: bool) -> None:
        """What was asked for is here, or there is none."""
        self._asking -= 1
        self._taken += is_job
        self._room.set()
