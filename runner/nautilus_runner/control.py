"""What may end a job before its time, and how each step of the job minds it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from nautilus_runner.errors import JobCanceled, JobError, JobInterrupted, JobLost, JobPreempted, JobTimedOut

T = TypeVar("T")


class Control:
    """The end that was asked for, if any.

    Soft (a cancel that leaves after_script its turn, a timeout): the job's own part ends, what comes after it
    still happens. Hard (lost, aborted, interrupted): nothing more happens. The first reason stands, but for a hard
    one that comes after a soft one.
    """

    def __init__(self) -> None:
        self.error: JobError | None = None
        self.soft = asyncio.Event()
        self.hard = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def finish(self) -> None:
        """The scripts are over: who cancels now does not wait for caches and artifacts on their way."""
        self._is_finishing = True

    def cancel(self) -> None:
        self._end(JobCanceled("canceled"), self.hard if self._is_finishing else self.soft)

    def time_out(self, limit_s: float) -> None:
        self._end(JobTimedOut(f"execution took longer than {limit_s:.0f} seconds"), self.soft)

    def abort(self, was_canceled: bool) -> None:
        error: JobError = JobCanceled("canceled") if was_canceled else JobLost("the server gave the job up")
        self._end(error, self.hard)

    def preempt(self, why: str) -> None:
        """Its script is asked to end, and the job goes back to be run again."""
        self._end(JobPreempted(f"preempted: {why}; it is to be run again"), self.soft)

    def interrupt(self) -> None:
        self._end(JobInterrupted("aborted: the runner was told to stop"), self.hard)

    def fail(self, error: JobError) -> None:
        """We can't go on with it as it is (its GPU is gone): its script ends, what comes after still happens."""
        self._end(error, self.soft)

    def start_timer(self, remaining_s: float, limit_s: float) -> None:
        self.stop_timer()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, remaining_s), self.time_out, limit_s)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self, *, is_final: bool = False) -> None:
        """Raises the end that was asked for; `is_final` steps mind hard ends only."""
        if self.error is not None and (self.hard.is_set() or not is_final):
            raise self.error

    async def guard(self, work: Coroutine[Any, Any, T], *, is_final: bool = False) -> T:
        """Do `work` unless an end comes first: then it is cancelled, and the end raised.

        When the guard itself is cancelled (the runner detaches) the work is cancelled too.
        """
        task = asyncio.ensure_future(work)
        ends = [asyncio.ensure_future(self.hard.wait())]
        if not is_final:
            ends.append(asyncio.ensure_future(self.soft.wait()))
        try:
            await asyncio.wait([task, *ends], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.check(is_final=is_final)
            return await task
        finally:
            for waiter in (task, *ends):
                waiter.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _end(self, error: JobError, event: asyncio.Event) -> None:
        if self.error is None or (event is self.hard and not self.hard.is_set()):
            self.error = error
        self.soft.set()
        event.set()
