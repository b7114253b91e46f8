"""A job's scripts: started or found again, followed to their end, ended when asked, and judged."""

from __future__ import annotations

import asyncio
from typing import Any

from nautilus_runner import clock, hooks, shell
from nautilus_runner.durations import seconds_of
from nautilus_runner.errors import (
    DiskExceeded,
    JobCanceled,
    JobError,
    JobPreempted,
    JobTimedOut,
    ScriptFailed,
    SystemFailure,
)
from nautilus_runner.executors.base import Executor, Exit, Script
from nautilus_runner.payload import Step
from nautilus_runner.verdict import judge
from nautilus_runner.work import Work

_MIB = 1 << 20
_AFTER_SCRIPT_S = 300.0
_WARDEN_SLACK_S = 60.0  # how much later than us an executor ends an overdue script by itself, if we are away


class Scripts:
    """All scripts of one job, in one executor. `acknowledged` tells how much of the log the server has."""

    def __init__(self, work: Work, executor: Executor) -> None:
        self._work = work
        self._executor = executor
        self._state = dict(work.entry.state)  # as it was when we came: what is to be taken up again
        self._steps = hooks.steps_of(work.job, work.variables)
        self._is_without_sources = False
        self._status = "success"
        self._began: dict[str, Any] = {}

    def first(self) -> Script | None:
        """The script that the job begins with; executors may send it ahead."""
        return self._script(self._steps[0], 0, is_after=False) if self._steps else None

    async def run(self) -> JobError | None:
        """Run the steps one after the other, from the one that the journal names.

        The error that the job has by its own doing is returned; ends that leave nothing more to do are raised.
        """
        work = self._work
        begin = int(self._state["index"]) if self._state.get("phase") == "script" else 0
        self._began = self._state.get("scripts_began") or clock.mark()
        for index, step in enumerate(self._steps):
            if index < begin:
                continue
            try:
                await self._run_step(step, index, "script", self._limit_s())
            except JobError as error:
                work.control.check(is_final=True)
                self._is_without_sources = step.name == hooks.STEP
                return error
        return None

    def _limit_s(self) -> float | None:
        """What is left for the job's scripts: by its own variable, or by its kind; None: only the job's timeout."""
        work = self._work
        own, kind = seconds_of(work.variables.get("RUNNER_SCRIPT_TIMEOUT")), work.context.limits.timeout_s
        limits = [limit for limit in (own, kind) if limit]
        if not limits:
            return None
        return max(0.01, min(limits) - clock.seconds_since(self._began, 0.0))

    async def run_after(self, error: JobError | None) -> JobError | None:
        """after_script. Its own error counts only where the job asks for that (AFTER_SCRIPT_IGNORE_ERRORS)."""
        work = self._work
        step = work.job.after_script
        if step is None or self._is_without_sources:
            return None
        if isinstance(work.control.error, (JobTimedOut, DiskExceeded, JobPreempted)):
            return None
        if isinstance(error, JobCanceled):
            work.trace.warning("script canceled externally (UI, API)")
        limit_s = seconds_of(work.variables.get("RUNNER_AFTER_SCRIPT_TIMEOUT")) or _AFTER_SCRIPT_S
        failed = "canceled" if isinstance(error, JobCanceled) else "failed"
        self._status = "success" if error is None else failed
        try:
            await self._run_step(step, len(self._steps), "after", limit_s)
        except (ScriptFailed, JobTimedOut, SystemFailure) as failure:
            if work.variables.get("AFTER_SCRIPT_IGNORE_ERRORS").lower() not in ("false", "0", "f"):
                work.trace.warning(f"after_script failed, but job will continue unaffected: {failure}")
                return None
            return None if error is not None else failure
        return None

    async def _run_step(self, step: Step, index: int, phase: str, limit_s: float | None) -> None:
        """Raises ScriptFailed, SystemFailure, or the end that was asked for."""
        work = self._work
        is_after = phase == "after"
        title = f'Executing "step_{step.name}" stage of the job script'
        section = "after_script" if is_after else f"step_{step.name}"
        if step.name == hooks.STEP:
            section, title = step.name, "Running the hooks of getting the sources"
        handle = await self._found_again(phase, index)
        if handle is None:
            work.control.check(is_final=is_after)
            work.trace.open_section(section, "Running after_script" if is_after else title)
            script = self._script(step, index, is_after)
            handle = await self._executor.start(script, lambda made: self._announce(phase, index, made))
        try:
            ended = await self._follow(handle, is_after, limit_s)
        except JobError:
            self._close(section)
            raise
        self._close(section)
        work.control.check(is_final=is_after)
        judge(ended, work.context.limits, work.context.meter.usage)

    async def _found_again(self, phase: str, index: int) -> dict[str, Any] | None:
        """The handle of a script that was running when the runner ended; None where it is yet to begin."""
        if self._state.get("phase") != phase or self._state.get("index") != index:
            return None
        handle: dict[str, Any] = self._state["handle"]
        self._state = {}
        return handle if await self._executor.reattach(handle) else None

    def _close(self, section: str) -> None:
        self._work.trace.end_output()
        self._work.trace.close_section(section)

    async def _announce(self, phase: str, index: int, handle: dict[str, Any]) -> None:
        """Make it durable that this script is about to begin, and where the log stood."""
        await self._work.entry.record(
            phase=phase,
            index=index,
            handle=handle,
            trace=self._work.trace.size,
            scripts_began=self._began,
        )

    async def _follow(self, handle: dict[str, Any], is_after: bool, limit_s: float | None) -> Exit:
        """Carry the output over until the script ended, by itself or because its end was asked for."""
        pumping = asyncio.create_task(self._pump(handle))
        try:
            ended = await self._ended(handle, is_after, limit_s)
            await pumping
            return ended
        except JobError:
            await pumping
            raise
        finally:
            pumping.cancel()

    async def _ended(self, handle: dict[str, Any], is_after: bool, limit_s: float | None) -> Exit:
        control = self._work.control
        try:
            async with asyncio.timeout(limit_s):
                return await control.guard(self._executor.wait(handle), is_final=is_after)
        except TimeoutError as error:
            await self._stop(handle)
            raise JobTimedOut(self._overdue(is_after)) from error
        except JobError:
            await self._stop(handle)
            raise

    async def _stop(self, handle: dict[str, Any]) -> None:
        """Ask the script to end and give it its grace, unless (or until) a hard end is asked for."""
        hard = self._work.control.hard
        if not hard.is_set():
            stopping = asyncio.ensure_future(self._executor.stop(handle, self._work.grace_s))
            hardening = asyncio.ensure_future(hard.wait())
            try:
                await asyncio.wait({stopping, hardening}, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    return await stopping
                await self._executor.stop(handle, 0.0)
                return await stopping
            finally:
                hardening.cancel()
                stopping.cancel()
        await self._executor.stop(handle, 0.0)

    def _overdue(self, is_after: bool) -> str:
        limits = self._work.context.limits
        own = seconds_of(self._work.variables.get("RUNNER_SCRIPT_TIMEOUT"))
        if is_after or not limits.timeout_s or (own and own <= limits.timeout_s):
            return "script execution timeout exceeded"
        return f"scripts of {limits.kind} jobs may take {limits.timeout_s:g} seconds on this runner"

    async def _pump(self, handle: dict[str, Any]) -> None:
        async for data in self._executor.logs(handle):
            self._work.trace.output(data)

    def _script(self, step: Step, index: int, is_after: bool) -> Script:
        work = self._work
        text = shell.job_script(
            step.script,
            project_dir=work.place.project_dir,
            exports={"CI_JOB_STATUS": self._status} if is_after else {},
            notice="Running after script..." if is_after else "",
            is_debug=work.variables.is_true("CI_DEBUG_TRACE"),
            env_file=work.variables.get("GITLAB_ENV"),
        )
        limit_s = _AFTER_SCRIPT_S if is_after else float(work.job.runner_info.timeout)
        return Script(
            number=index,
            name=step.name,
            commands=step.script,
            text=text,
            environment={**work.variables.environment(), **work.context.gpus.environment()},
            timeout_s=limit_s + _WARDEN_SLACK_S,
            output_limit_bytes=work.settings.output_limit_mib * _MIB,
        )
