"""Carries the log to the server while the job runs, and learns from the answers what became of the job.

One courier per job. It sends at once when there was silence, else at most every 0.3 s (or as seldom as the
server asks for); it touches the job when there is nothing to send; it never gives up on a server that does not
answer, and never waits longer than `MAX_WAIT_S`.
Source: gitlab-runner 19.x `network/trace.go`, `network/gitlab.go`; GitLab `Ci::AppendBuildTraceService`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from enum import Enum

from nautilus_runner.client import Coordinator, JobAnswer, Trace
from nautilus_runner.errors import UnavailableError
from nautilus_runner.trace.spool import Spool

log = logging.getLogger(__name__)

LIVE_INTERVAL_S = 0.3
FIRST_S = 0.05
"""After accepting a job: while it is prepared there are better things to do than to tell of its first lines."""
MAX_PATCH = 1 << 20
MAX_WAIT_S = 20.0
_TOUCH_MAX_S = 30.0
_HELD_TOUCH_S = 25.0
_REFUSALS = 10  # of a result, by a server that neither takes it nor says that the job is lost


class Verdict(Enum):
    """What the server wants of the job."""

    RUN = "run"
    CANCEL = "cancel"  # gracefully: after_script still runs
    ABORT = "abort"  # canceled or failed at the server, or no longer ours


class Courier:
    """Sends one job's spool. `on_verdict` is called once for each worsening of the verdict."""

    def __init__(
        self,
        client: Coordinator,
        job_id: int,
        token: str,
        spool: Spool,
        on_verdict: Callable[[Verdict, JobAnswer], None],
        acknowledged: int = 0,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._token = token
        self._spool = spool
        self._on_verdict = on_verdict
        self._verdict = Verdict.RUN
        self._interval_s = LIVE_INTERVAL_S
        self._touch_s = 1.0
        self._patch_size = MAX_PATCH
        self._growth = asyncio.Event()
        self._failures = 0
        self._refusals = 0
        self.acknowledged = min(acknowledged, spool.size)
        self.answer: JobAnswer | None = None
        spool.on_growth = self._growth.set
        self._growth.set()

    async def accept(self) -> bool:
        """Confirm that we took the job. False: it is not ours."""
        while True:
            try:
                answer = await self._client.touch(self._job_id, self._token)
            except UnavailableError as error:
                await self._back_off("confirming the job", error)
                continue
            if answer.is_transient:
                await self._back_off("confirming the job", None, answer)
                continue
            self._learn(answer)
            return self._verdict is not Verdict.ABORT

    async def run(self) -> None:
        """Send and touch until cancelled or until the job is not ours any more."""
        await asyncio.sleep(FIRST_S)
        touching = asyncio.create_task(self._touch_forever())
        try:
            while self._verdict is not Verdict.ABORT:
                await self._growth.wait()
                self._growth.clear()
                has_arrived = await self._send_some()
                if self.acknowledged < self._spool.size:
                    self._growth.set()  # also for what did not arrive: a silent job tells us no more
                    if has_arrived and self._spool.size - self.acknowledged >= self._patch_size:
                        continue
                await asyncio.sleep(self._interval_s)
        finally:
            touching.cancel()

    async def deliver(
        self, state: str, failure_reason: str | None, exit_code: int | None, *, is_given_back: bool = False
    ) -> bool:
        """The rest of the log, then the result, however long the server is away.

        True when the server has it; False when the job is no longer ours to report.
        """
        while True:
            if not await self._send_rest():
                return False
            trace = Trace(self._spool.checksum, self._spool.size)
            try:
                answer = await self._client.finish(
                    self._job_id,
                    self._token,
                    state=state,
                    failure_reason=failure_reason,
                    exit_code=exit_code,
                    trace=trace,
                    is_given_back=is_given_back,
                )
            except UnavailableError as error:
                await self._back_off("reporting the result", error)
                continue
            verdict = await self._result_of(answer)
            if verdict is not None:
                return verdict

    async def _result_of(self, answer: JobAnswer) -> bool | None:
        if answer.status == 200:
            return True
        if answer.status == 202:
            await asyncio.sleep(min(answer.interval_s or 1.0, MAX_WAIT_S))
            return None
        if answer.status == 412:
            log.warning("job %s: the server's log does not match, sending it again", self._job_id)
            self.acknowledged = 0
            await self._back_off("matching the log")
            return None
        if answer.is_transient or answer.status == 409:
            await self._back_off("reporting the result", None, answer)
            return None
        self._refusals += 1
        log.warning("job %s: the result was refused with %s", self._job_id, answer.status)
        if answer.is_lost or self._refusals >= _REFUSALS:
            return False
        await self._back_off("reporting the result", None, answer)
        return None

    async def _send_rest(self) -> bool:
        while self.acknowledged < self._spool.size:
            await self._send_some()
            if self.answer is not None and self.answer.status == 403:
                return False
            if self._refusals >= _REFUSALS:
                self._refusals = 0
                return True  # the log is not wanted; the result still may be
        return True

    async def _send_some(self) -> bool:
        """Send one piece; False where it did not arrive (after a wait)."""
        offset = self.acknowledged
        data = self._spool.read(offset, self._patch_size)
        if not data:
            return True
        try:
            answer = await self._client.patch_trace(self._job_id, self._token, offset, data)
        except UnavailableError as error:
            await self._back_off("sending the log", error)
            return False
        self._learn(answer)
        if answer.status == 202:
            self._failures = self._refusals = 0
            self.acknowledged = offset + len(data)
            if answer.range_end is not None and answer.range_end < self.acknowledged:
                self.acknowledged = answer.range_end  # less arrived than we sent
            return True
        if answer.status == 416 and answer.range_end is not None:
            self.acknowledged = min(answer.range_end, self._spool.size)
            if answer.range_end != offset:
                return True
        if answer.status == 413 and self._patch_size > 4096:
            self._patch_size //= 2
            return True
        if not answer.is_lost:
            self._refusals += not answer.is_transient
            await self._back_off("sending the log", None, answer)
        return False

    async def _touch_forever(self) -> None:
        """Learn of a cancel while the job is silent: by a held touch where the server knows it, else by asking."""
        is_held = True
        while True:
            try:
                answer = await self._client.touch(
                    self._job_id, self._token, hold_s=_HELD_TOUCH_S if is_held else 0.0
                )
            except UnavailableError as error:
                log.info("job %s: touching: %s", self._job_id, error)
                await asyncio.sleep(min(5.0, MAX_WAIT_S))
                continue
            self._learn(answer)
            if self._verdict is Verdict.ABORT:
                return
            is_held = answer.was_held
            if not is_held or self._verdict is Verdict.CANCEL:
                await asyncio.sleep(self._touch_s)

    def _learn(self, answer: JobAnswer) -> None:
        self.answer = answer
        if answer.interval_s is not None:
            self._interval_s = LIVE_INTERVAL_S if answer.interval_s <= 1 else answer.interval_s
            self._touch_s = min(max(answer.interval_s, 1.0), _TOUCH_MAX_S)
        if answer.is_lost:
            self._decide(Verdict.ABORT, answer)
        elif answer.is_canceling:
            self._decide(Verdict.CANCEL, answer)

    def _decide(self, verdict: Verdict, answer: JobAnswer) -> None:
        if verdict is self._verdict or self._verdict is Verdict.ABORT:
            return
        self._verdict = verdict
        self._on_verdict(verdict, answer)

    async def _back_off(
        self, doing: str, error: Exception | None = None, answer: JobAnswer | None = None
    ) -> None:
        self._failures += 1
        wait_s = min(0.25 * 2 ** min(self._failures, 10), MAX_WAIT_S) * random.uniform(0.8, 1.2)  # noqa: S311
        asked = answer.retry_after_s if answer else getattr(error, "retry_after_s", None)
        if asked:
            wait_s = min(max(wait_s, asked), MAX_WAIT_S)
        why = error or (f"status {answer.status}" if answer else "")
        log.info("job %s: %s: %s; again in %.1f s", self._job_id, doing, why, wait_s)
        await asyncio.sleep(wait_s)
