"""Runners that wait for a job, and which of them a new job wakes.

A waiting request is a small object and a future: no task of its own in the database, no connection. A new job
wakes one waiter that may take it, the longest waiting first; what a waiter then gets is decided by the
database (`jobs.claim`) alone, so a wrong guess here costs a query and never a job.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from nautilus_forge.jobs.wakeups import Queued


@dataclass(frozen=True)
class Wants:
    """What a runner takes. `project_ids` None: jobs of every project. A paused runner takes nothing."""

    runner_id: int
    tags: frozenset[str] = frozenset()
    run_untagged: bool = True
    only_protected: bool = False
    project_ids: frozenset[int] | None = None
    is_paused: bool = False

    def takes(self, job: Queued) -> bool:
        if self.is_paused:
            return False
        if self.only_protected and not job.is_protected:
            return False
        if self.project_ids is not None and job.project_id not in self.project_ids:
            return False
        if job.tags is None:
            return True
        return job.tags <= self.tags if job.tags else self.run_untagged


@dataclass(eq=False)
class Waiter:
    """One held request. `is_offered`: it was woken for a job, not to end. `is_idle`: it waits for news alone;
    before that it asks the database, and afterwards it asks again when a job was offered meanwhile.
    """

    wants: Wants
    woken: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_offered: bool = False
    is_idle: bool = False

    def wake(self) -> None:
        """Ends the waiting."""
        if not self.woken.done():
            self.woken.set_result(None)

    def offer(self) -> bool:
        """Has the waiter ask the database; False where it is awake already."""
        if self.woken.done():
            return False
        self.is_offered = True
        self.woken.set_result(None)
        return True


class JobBoard:
    """All waiters of this process. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        self._boot = secrets.token_hex(6)
        self._version = 0

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def last_update(self) -> str:
        """Value of `X-GitLab-Last-Update`: changes with every job that is queued."""
        return f"{self._boot}{self._version:x}"

    def join(self, waiter: Waiter) -> None:
        self._waiters[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)

    def offer(self, job: Queued) -> bool:
        """Wakes the longest waiting runner that takes the job; False where there is none."""
        self._version += 1
        return any(waiter.wants.takes(job) and waiter.offer() for waiter in self._waiters)

    @property
    def has_idle(self) -> bool:
        """Whether somebody waits for news alone."""
        return any(waiter.is_idle and not waiter.woken.done() for waiter in self._waiters)

    def offer_again(self, jobs: Iterable[Queued]) -> None:
        """For jobs that were found waiting: as `offer`, but nothing is new, and who asks anyway is left alone."""
        idle = [waiter for waiter in self._waiters if waiter.is_idle and not waiter.woken.done()]
        in_vain: set[tuple[int, bool, frozenset[str] | None]] = set()
        for job in jobs:
            kind = (job.project_id, job.is_protected, job.tags)
            if kind in in_vain:
                continue
            if not any(waiter.wants.takes(job) and waiter.offer() for waiter in idle):
                in_vain.add(kind)

    def wake_runner(self, runner_id: int) -> None:
        """The runner was edited: its requests end, and the next ones meet what it is now."""
        self._version += 1
        for waiter in self._waiters:
            if waiter.wants.runner_id == runner_id:
                waiter.wake()

    def wake_all(self) -> None:
        """The forge ends: all requests end."""
        for waiter in self._waiters:
            waiter.wake()

    def news_missed(self) -> None:
        """Whoever asks next is to look for himself, whatever he was told before."""
        self._version += 1
