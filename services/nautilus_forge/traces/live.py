"""The jobs that runners are writing logs for: who may write, what is secret, who watches.

A PATCH of a known job touches no database: its token, status and secrets are here. News (`jobs.wakeups`)
removes an entry the moment that its job changes; an entry is believed for a few seconds at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.traces.mask import Mask

BELIEVED_S = 5.0


@dataclass(slots=True)
class LiveJob:
    """A job that a runner has, as the database told at `read_at` (monotonic seconds).

    `coverage`: the pattern that finds the coverage in its log.
    """

    id: int
    pipeline_id: int
    project_id: int
    token: str
    status: Status
    mask: Mask
    runner_id: int | None
    runner_manager_id: int | None
    features: dict[str, Any]
    is_masked: bool
    may_reset: bool
    coverage: str | None = None
    read_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.read_at < BELIEVED_S


class LiveJobs:
    """Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._jobs: dict[int, LiveJob] = {}
        self._watched_until: dict[int, float] = {}
        self._changed: dict[int, list[asyncio.Future[None]]] = {}

    def get(self, job_id: int) -> LiveJob | None:
        """The entry, None where there is none to be believed."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.is_fresh else None

    def mask_of(self, job_id: int, token: str) -> Mask | None:
        """The mask that was made for this claim of the job, however old it is."""
        job = self._jobs.get(job_id)
        return job.mask if job is not None and job.token == token else None

    def put(self, job: LiveJob) -> None:
        if len(self._jobs) > 10_000:
            self._jobs = {key: value for key, value in self._jobs.items() if value.is_fresh}
        self._jobs[job.id] = job

    def forget(self, job_id: int) -> None:
        """The job changed: read it anew, and answer those who wait for a change."""
        self._jobs.pop(job_id, None)
        for future in self._changed.pop(job_id, ()):
            if not future.done():
                future.set_result(None)

    def forget_all(self) -> None:
        for job_id in {*self._jobs, *self._changed}:
            self.forget(job_id)

    async def changed(self, job_id: int, timeout_s: float, stopping: asyncio.Event) -> None:
        """Returns when the job changes, the time is over, or the forge ends."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.setdefault(job_id, []).append(future)
        ending = asyncio.ensure_future(stopping.wait())
        waiting: set[asyncio.Future[Any]] = {future, ending}
        try:
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            future.cancel()
            self._drop(job_id, future)

    def _drop(self, job_id: int, future: asyncio.Future[None]) -> None:
        waiting = self._changed.get(job_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._changed.pop(job_id, None)

    def watch(self, job_id: int, for_s: float) -> None:
        """Somebody reads the job's log."""
        if len(self._watched_until) > 1000:
            self._watched_until = dict(self._still_watched())
        self._watched_until[job_id] = time.monotonic() + for_s

    def is_watched(self, job_id: int) -> bool:
        return self._watched_until.get(job_id, 0.0) > time.monotonic()

    def _still_watched(self) -> Iterable[tuple[int, float]]:
        now = time.monotonic()
        return ((job, until) for job, until in self._watched_until.items() if until > now)
