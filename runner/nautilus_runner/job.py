"""One job from its claim to its delivered result.

    prepare   executor and sources at the same time; caches; other jobs' artifacts
    script    the job's steps, one after the other
    after     after_script
    finish    caches saved, artifacts uploaded
    report    the rest of the log and the result, however long the server is away

Each phase is in the journal before it begins. `run` takes up wherever the journal says that the job is: after a
restart of the runner a running script is found again and its log goes on to the byte.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nautilus_runner import __version__, finishing, shell, staging
from nautilus_runner.cache import LocalCache
from nautilus_runner.client import Coordinator, JobAnswer
from nautilus_runner.control import Control
from nautilus_runner.durations import seconds_of
from nautilus_runner.errors import (
    FailureReason,
    JobCanceled,
    JobError,
    JobInterrupted,
    JobLost,
    JobTimedOut,
    ScriptFailed,
    SystemFailure,
)
from nautilus_runner.executors.base import Context, Executor, Exit, Place, Script
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpu import GpuPool, asked_for
from nautilus_runner.journal import Entry
from nautilus_runner.payload import Job, Step
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.trace.courier import Courier, Verdict
from nautilus_runner.trace.spool import Spool
from nautilus_runner.trace.writer import TraceWriter
from nautilus_runner.variables import job_variables

log = logging.getLogger(__name__)

_MIB = 1 << 20
_AFTER_SCRIPT_S = 300.0
_WARDEN_SLACK_S = 60.0  # how much later than us an executor ends an overdue script by itself, if we are away


@dataclass(frozen=True, slots=True)
class Machine:
    """What all jobs of this runner share."""

    system_id: str
    mirrors: Mirrors
    cache: LocalCache
    gpus: GpuPool
    executors: Factory


class JobRun:
    """`state` is for status.json: preparing, running, finishing, reporting."""

    def __init__(
        self,
        entry: Entry,
        job: Job,
        settings: RunnerSettings,
        client: Coordinator,
        machine: Machine,
        slot: int,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.job = job
        self.slot = slot
        self._state = "preparing"
        self._on_change = on_change
        self.control = Control()
        self.is_off_slot = asyncio.Event()
        self._accepted = asyncio.Event()
        self._after_status = "success"
        self.started_at: float = entry.state.setdefault("claimed_at", time.time())
        self._entry = entry
        self._settings = settings
        self.client = client
        self._machine = machine
        self._phase: str = entry.state.get("phase", "prepare")
        self._is_resumed = "phase" in entry.state
        self._spool = Spool(entry.trace_path, keep=entry.state.get("trace"))
        self._context = Context(
            entry.key, job, settings, entry.folder, say=self._say, is_again=self._is_resumed
        )
        self._executor: Executor | None = None
        self._place = Place("", "", is_shared=True)
        self.trace = TraceWriter(
            self._spool,
            phrases=self._secrets(),
            token_prefixes=job.features.token_mask_prefixes,
            limit_bytes=settings.output_limit_mib * _MIB,
            has_sections=job.features.trace_sections,
        )
        self._courier = Courier(
            client, job.id, job.token, self._spool, self._on_verdict, entry.state.get("acknowledged", 0)
        )

    @property
    def state(self) -> str:
        return self._state

    def _enter(self, state: str) -> None:
        self._state = state
        self._on_change()

    async def run(self) -> None:
        """Returns when the server has the result (or no longer wants it) and nothing of the job is left.

        Cancelled: the runner detaches. The journal and what runs stay as they are.
        """
        if self._phase != "report":
            self._decide(await self._execute_and_send())
            await self._remember_result(is_durable=False)
        self._enter("reporting")
        await asyncio.gather(self._report(), self._release(), self._remember_result(is_durable=True))
        self._spool.close()
        self._entry.forget()

    async def _execute_and_send(self) -> JobError | None:
        self._claim_gpus()
        sending = asyncio.create_task(self._accept_and_send())
        limit_s = float(self.job.runner_info.timeout)
        self.control.start_timer(limit_s - (time.time() - self.started_at), limit_s)
        try:
            await self._set_up()
            await self._execute()
        except JobError as error:
            return error
        except Exception as error:
            log.exception("job %s: failed by an error of ours", self.job.id)
            return SystemFailure(f"{type(error).__name__}: {error}")
        finally:
            self.control.stop_timer()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return None

    async def _release(self) -> None:
        """Remove what the job left and give back what it held, while its result is on the way.

        What can't be removed now is an orphan, removed at the next start: the result is worth more.
        """
        try:
            if self._executor is None:
                self._executor = await asyncio.to_thread(self._machine.executors.make, self._context)
            await self._executor.cleanup()
        except Exception as error:
            log.warning("job %s: not everything of it could be removed: %s", self.job.id, error)
        self._machine.gpus.give_back(self._context.gpus)
        self.is_off_slot.set()

    async def _set_up(self) -> None:
        """The executor, and what the job's variables are in its place. Raises JobError."""
        executor = await asyncio.to_thread(self._machine.executors.make, self._context)
        self._executor = executor
        self._place = executor.place()
        self._context.variables = job_variables(
            self.job,
            builds_dir=self._place.builds_dir,
            project_dir=self._place.project_dir,
            slot=self.slot,
            is_shared=self._place.is_shared,
            environment=self._settings.environment,
        )
        self.trace.hide(self._context.variables.masked_values())

    @property
    def executor(self) -> Executor:
        assert self._executor is not None
        return self._executor

    async def _accept_and_send(self) -> None:
        """The claim is on disk before the server hears that we have it."""
        await self._entry.record()
        if await self._courier.accept():
            self._accepted.set()
            await self._courier.run()

    async def _execute(self) -> None:
        """All phases from the one that the journal names."""
        error: JobError | None = None
        first = 0
        if self._phase == "prepare":
            await self._prepare()
        if self._phase == "script" and self._is_resumed:
            first = int(self._entry.state["index"])
        if self._phase in ("prepare", "script"):
            error = await self._run_scripts(first)
        elif saved := self._entry.state.get("error"):
            error = _restored(saved)
        self.control.check(is_final=True)
        if self._phase != "finish":
            error = await self._run_after_script(error) or error
        await self._finish(error)
        if error is not None:
            raise error

    # ---- prepare

    async def _prepare(self) -> None:
        if self._is_resumed:
            self.trace.warning("The runner was restarted; the job is prepared again.")
        self.trace.line(f"Running with nautilus-runner {__version__}")
        self.trace.line(
            f"  on {self._settings.label} {self._settings.short_token}, system ID: {self._machine.system_id}"
        )
        await self._entry.record(is_durable=False, phase="prepare")
        work = staging.Staging(
            self.job,
            self._settings,
            self.client,
            self.trace,
            self._context.variables,
            await asyncio.to_thread(self.executor.stage),
            self._entry.folder,
        )
        fetching = asyncio.create_task(self._fetch_sources(work))
        try:
            with self.trace.section("prepare_executor", f'Preparing the "{self.executor.name}" executor'):
                await self._take_gpus()
                if scripts := self.job.scripts:
                    self._context.first = self._script(scripts[0], 0, is_after=False)
                await self.control.guard(self.executor.prepare())
            with self.trace.section("prepare_script", "Preparing environment"):
                self.trace.raw(f"Running on {socket.gethostname()}...")
            with self.trace.section("get_sources", "Getting source from Git repository"):
                staging.describe_sources(work)
                await self.control.guard(_wait(fetching))
                staging.describe_checkout(work)
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
        if any(cache.paths or cache.untracked for cache in self.job.cache):
            with self.trace.section("restore_cache", "Restoring cache"):
                await self.control.guard(staging.restore_caches(work, self._machine.cache, self._cache_scope))
        if staging.downloads(self.job):
            with self.trace.section("download_artifacts", "Downloading artifacts"):
                await self.control.guard(staging.download_artifacts(work))
        await self.control.guard(self.executor.adopt())
        await self.control.guard(self._accepted.wait())

    async def _fetch_sources(self, work: staging.Staging) -> None:
        """Only once the server has accepted our claim: until then the job's token opens no repository."""
        await self._accepted.wait()
        await staging.fetch_sources(work, self._machine.mirrors)

    async def _take_gpus(self) -> None:
        count = asked_for(self._context.variables.environment())
        if count > self._machine.gpus.free:
            self.trace.raw(f"Waiting for {count} GPUs; {self._machine.gpus.free} are free.")
        self._context.gpus = await self.control.guard(self._machine.gpus.take(count))
        if count:
            await self._entry.record(gpus=self._context.gpus.uuids)
            self.trace.raw(f"GPUs of this job: {', '.join(self._context.gpus.uuids)}")

    def _claim_gpus(self) -> None:
        if uuids := self._entry.state.get("gpus"):
            self._context.gpus = self._machine.gpus.claim(tuple(uuids))

    # ---- scripts

    async def _run_scripts(self, first: int) -> JobError | None:
        """The error that the job has by its own doing; ends that leave nothing more to do are raised."""
        self._enter("running")
        for index, step in enumerate(self.job.scripts):
            if index < first:
                continue
            limit_s = seconds_of(self._context.variables.get("RUNNER_SCRIPT_TIMEOUT"))
            try:
                await self._run_step(step, index, "script", limit_s)
            except (ScriptFailed, JobTimedOut, SystemFailure, JobCanceled) as error:
                self.control.check(is_final=True)
                return error
        return None

    async def _run_step(self, step: Step, index: int, phase: str, limit_s: float | None) -> None:
        """Raises ScriptFailed, SystemFailure, or the end that was asked for."""
        is_final = phase == "after"
        title = (
            "Running after_script" if is_final else f'Executing "step_{step.name}" stage of the job script'
        )
        section = "after_script" if is_final else f"step_{step.name}"
        script = self._script(step, index, is_final)
        handle = None
        if self._is_resumed and self._phase == phase and self._entry.state.get("index") == index:
            found = self._entry.state["handle"]
            handle = found if await self.executor.reattach(found) else None
            self._is_resumed = False
        if handle is None:
            self.control.check(is_final=is_final)
            self.trace.open_section(section, title)
            handle = await self.executor.start(script, lambda found: self._announce(phase, index, found))
        try:
            ended = await self._follow(handle, is_final, limit_s)
        except JobError:
            self._close(section)
            raise
        self._close(section)
        self.control.check(is_final=is_final)
        _judge(ended)

    def _close(self, section: str) -> None:
        self.trace.end_output()
        self.trace.close_section(section)

    async def _announce(self, phase: str, index: int, handle: dict[str, Any]) -> None:
        """Make it durable that this script is about to begin, and where the log stood."""
        await self._entry.record(
            phase=phase,
            index=index,
            handle=handle,
            trace=self._spool.size,
            acknowledged=self._courier.acknowledged,
        )

    async def _follow(self, handle: dict[str, Any], is_final: bool, limit_s: float | None) -> Exit:
        """Carry the output over until the script ended, by itself or because its end was asked for."""
        pumping = asyncio.create_task(self._pump(handle))
        try:
            ended = await self._ended(handle, is_final, limit_s, pumping)
        except JobError:
            await pumping
            raise
        finally:
            pumping.cancel()
        return ended

    async def _ended(
        self, handle: dict[str, Any], is_final: bool, limit_s: float | None, pumping: asyncio.Task[None]
    ) -> Exit:
        try:
            async with asyncio.timeout(limit_s):
                ended = await self.control.guard(self.executor.wait(handle), is_final=is_final)
        except TimeoutError as error:
            await self.executor.stop(handle, self._grace_s)
            raise JobTimedOut("script execution timeout exceeded") from error
        except JobError:
            await self.executor.stop(handle, 0.0 if self.control.hard.is_set() else self._grace_s)
            raise
        await pumping
        return ended

    async def _pump(self, handle: dict[str, Any]) -> None:
        async for data in self.executor.logs(handle):
            self.trace.output(data)

    async def _run_after_script(self, error: JobError | None) -> JobError | None:
        """An error of its own counts only where the job asks for that (AFTER_SCRIPT_IGNORE_ERRORS)."""
        if self._phase != "after":
            await self._entry.record(
                is_durable=self.job.after_script is not None,
                phase="scripted",
                trace=self._spool.size,
                error=_saved(error),
            )
        step = self.job.after_script
        if step is None or isinstance(self.control.error, JobTimedOut):
            return None
        if isinstance(error, JobCanceled):
            self.trace.warning("script canceled externally (UI, API)")
        limit_s = seconds_of(self._context.variables.get("RUNNER_AFTER_SCRIPT_TIMEOUT")) or _AFTER_SCRIPT_S
        self._after_status = (
            "success" if error is None else "canceled" if isinstance(error, JobCanceled) else "failed"
        )
        try:
            await self._run_step(step, len(self.job.scripts), "after", limit_s)
        except (ScriptFailed, JobTimedOut, SystemFailure) as failure:
            if self._context.variables.get("AFTER_SCRIPT_IGNORE_ERRORS").lower() not in ("false", "0", "f"):
                self.trace.warning(f"after_script failed, but job will continue unaffected: {failure}")
                return None
            return None if error is not None else failure
        return None

    def _script(self, step: Step, index: int, is_after: bool) -> Script:
        variables = self._context.variables
        environment = {**variables.environment(), **self._context.gpus.environment()}
        status = {"CI_JOB_STATUS": self._after_status} if is_after else {}
        text = shell.job_script(
            step.script,
            project_dir=self._place.project_dir,
            exports=status,
            notice="Running after script..." if is_after else "",
            is_debug=variables.is_true("CI_DEBUG_TRACE"),
        )
        limit_s = _AFTER_SCRIPT_S if is_after else float(self.job.runner_info.timeout)
        return Script(
            number=index,
            name=step.name,
            commands=step.script,
            text=text,
            environment=environment,
            timeout_s=limit_s + _WARDEN_SLACK_S,
            output_limit_bytes=self._settings.output_limit_mib * _MIB,
        )

    # ---- finish

    async def _finish(self, error: JobError | None) -> None:
        self._enter("finishing")
        await self._entry.record(
            is_durable=False, phase="finish", trace=self._spool.size, error=_saved(error)
        )
        succeeded = error is None
        work = finishing.Finish(
            self.job,
            self.client,
            self.trace,
            self.executor.tree(),
            self._context.variables,
            self._place.project_dir,
            self._entry.folder,
            self._tracked(),
        )
        caches = tuple(c for c in self.job.cache if (c.paths or c.untracked) and c.is_due(succeeded))
        if caches:
            name, title = ("archive_cache", "Saving cache for successful job")
            if not succeeded:
                name, title = ("archive_cache_on_failure", "Saving cache for failed job")
            with self.trace.section(name, title):
                await self.control.guard(
                    finishing.save_caches(
                        work, caches, self._machine.cache, self._cache_scope, self._settings.cache_limit_mib
                    ),
                    is_final=True,
                )
        if artifacts := finishing.due(self.job.artifacts, succeeded):
            kind = "success" if succeeded else "failure"
            title = (
                "Uploading artifacts for successful job"
                if succeeded
                else "Uploading artifacts for failed job"
            )
            with self.trace.section(f"upload_artifacts_on_{kind}", title):
                await self.control.guard(self._upload(work, artifacts, error), is_final=True)
        with self.trace.section(
            "cleanup_file_variables", "Cleaning up project directory and file based variables"
        ):
            pass

    async def _upload(self, work: finishing.Finish, artifacts: Any, error: JobError | None) -> None:
        done = set(self._entry.state.get("uploaded", ()))
        try:
            async for number in finishing.upload_artifacts(work, artifacts, done):
                done.add(number)
                await self._entry.record(uploaded=sorted(done))
        except (ScriptFailed, SystemFailure):
            if error is None:
                raise

    def _tracked(self) -> frozenset[str]:
        path = self._entry.folder / staging.TRACKED
        content = path.read_bytes() if path.exists() else b""
        return frozenset(name.decode(errors="surrogateescape") for name in content.split(b"\0") if name)

    # ---- report

    def _decide(self, error: JobError | None) -> None:
        """The last words of the log, and the result."""
        if error is None:
            self.trace.notice("Job succeeded")
        elif isinstance(error, SystemFailure):
            self.trace.error(f"Job failed (system failure): {error}")
        elif not isinstance(error, JobLost):
            self.trace.error(f"Job failed: {error}")
        self._entry.state["result"] = None if isinstance(error, JobLost) else self._result(error)
        log.info("job %s: %s", self.job.id, "succeeded" if error is None else f"failed: {error}")

    async def _remember_result(self, *, is_durable: bool) -> None:
        if is_durable:
            await asyncio.to_thread(self._spool.sync)
        await self._entry.record(
            is_durable=is_durable,
            phase="report",
            trace=self._spool.size,
            acknowledged=self._courier.acknowledged,
            result=self._entry.state["result"],
        )

    def _result(self, error: JobError | None) -> dict[str, Any]:
        if error is None:
            return {"state": "success", "failure_reason": None, "exit_code": None}
        known = self.job.features.failure_reasons
        reason = str(error.reason)
        if reason == FailureReason.CANCELED:
            reason = str(FailureReason.UNKNOWN)
        elif known and reason not in known:
            reason = str(FailureReason.SYSTEM if isinstance(error, JobInterrupted) else FailureReason.UNKNOWN)
        return {"state": "failed", "failure_reason": reason, "exit_code": error.exit_code}

    async def _report(self) -> None:
        result = self._entry.state.get("result")
        if result is not None:
            await self._courier.deliver(result["state"], result["failure_reason"], result["exit_code"])

    # ---- helpers

    def _say(self, text: str) -> None:
        self.trace.raw(text)

    def _on_verdict(self, verdict: Verdict, answer: JobAnswer) -> None:
        log.info(
            "job %s: the server says %s (%s)", self.job.id, verdict.value, answer.job_status or answer.status
        )
        if verdict is Verdict.CANCEL:
            self.control.cancel()
        else:
            self.control.abort(was_canceled=answer.job_status == "canceled")

    @property
    def _cache_scope(self) -> str:
        return f"{self._settings.url} {self.job.job_info.project_id}"

    @property
    def _grace_s(self) -> float:
        settings = self._settings
        return settings.docker.grace_s if settings.executor == "docker" else settings.process.grace_s

    def _secrets(self) -> list[str]:
        values = [v.value for v in self.job.variables if v.masked]
        values += [self.job.token, self._settings.token.get_secret_value()]
        values += [d.token for d in self.job.dependencies]
        values += [c.password for c in self.job.credentials]
        return [value for value in values if value]


async def _wait(task: asyncio.Task[None]) -> None:
    await asyncio.shield(task)


def _judge(ended: Exit) -> None:
    """Raises ScriptFailed or SystemFailure for an end that is no success."""
    if ended.is_system_failure:
        raise SystemFailure(ended.note)
    if ended.is_timeout:
        raise JobTimedOut("execution took longer than allowed")
    if ended.code != 0:
        note = f" ({ended.note})" if ended.note else ""
        raise ScriptFailed(f"exit code {ended.code}{note}", ended.code)


_KINDS = {kind.__name__: kind for kind in (ScriptFailed, SystemFailure, JobTimedOut, JobCanceled)}


def _saved(error: JobError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code}


def _restored(saved: dict[str, Any]) -> JobError:
    return _KINDS.get(saved["kind"], SystemFailure)(saved["message"], saved["exit_code"])
