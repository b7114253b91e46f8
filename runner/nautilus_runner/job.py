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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nautilus_runner import clock, ending
from nautilus_runner.checkpoints import keeping
from nautilus_runner.client import Coordinator, JobAnswer
from nautilus_runner.control import Control
from nautilus_runner.errors import (
    JobError,
    JobLost,
    SystemFailure,
)
from nautilus_runner.executors.base import Context, Executor
from nautilus_runner.finishing import finish
from nautilus_runner.journal import Entry
from nautilus_runner.limits import Limits, kind_of, limits_of
from nautilus_runner.live.desk import Desk
from nautilus_runner.live.folder import LiveFolder
from nautilus_runner.live.link import reachable
from nautilus_runner.payload import Job
from nautilus_runner.preparing import prepare
from nautilus_runner.scripts import Scripts
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.trace.courier import Courier, Verdict
from nautilus_runner.trace.spool import Spool
from nautilus_runner.trace.writer import TraceWriter
from nautilus_runner.usage.reading import summary
from nautilus_runner.usage.tracking import RunLog, run_log_for
from nautilus_runner.usage.watch import metered
from nautilus_runner.variables import job_variables
from nautilus_runner.work import Machine, Work

log = logging.getLogger(__name__)

_MIB = 1 << 20


class JobRun:
    """`state` is for status.json: preparing, running, finishing, reporting; `on_change` hears of each change."""

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
        self.client = client
        self.state = "preparing"
        self.control = Control()
        self.is_off_slot = asyncio.Event()
        self.started_at: float = entry.state.setdefault("claimed_at", time.time())
        self._entry = entry
        self._settings = settings
        self._machine = machine
        self._slot = slot
        self._project = f"{settings.url} {job.job_info.project_id}"
        self._number = machine.project_numbers.take(self._project, entry.state.get("project_number"))
        entry.state["project_number"] = self._number
        self._on_change = on_change
        self._phase: str = entry.state.get("phase", "prepare")
        self._executor: Executor | None = None
        self.desk = Desk(self._folder)
        """Answers who looks into the job's folder while it runs."""
        self._run_log: RunLog | None = None
        self._is_answered = asyncio.Event()
        """The server has said whether our claim is good."""
        self._spool = Spool(entry.trace_path, keep=entry.state.get("trace"))
        self._trace = TraceWriter(
            self._spool,
            phrases=self._secrets(),
            token_prefixes=job.features.token_mask_prefixes,
            limit_bytes=settings.output_limit_mib * _MIB,
            has_sections=job.features.trace_sections,
        )
        is_again = "phase" in entry.state
        self._context = Context(
            entry.key, job, settings, entry.folder, say=self._trace.raw, is_again=is_again
        )
        acknowledged = entry.state.get("acknowledged", 0)
        self._courier = Courier(client, job.id, job.token, self._spool, self._on_verdict, acknowledged)

    async def run(self) -> None:
        """Returns when the server has the result (or no longer wants it) and nothing of the job is left.

        Cancelled: the runner detaches. The journal and what runs stay as they are.
        """
        if self._phase != "report":
            await self._decide(await self._execute_and_send())
            await self._remember_result(is_durable=False)
        self._enter("reporting")
        await asyncio.gather(self._report(), self._release(), self._remember_result(is_durable=True))
        self._spool.close()
        self._entry.forget()

    def lose_gpu(self, uuid: str, reason: str) -> None:
        """A GPU is set aside: the job that has it can't go on, and is to be tried again elsewhere."""
        if uuid in self._context.gpus.uuids:
            self.control.fail(SystemFailure(f"the job's GPU {uuid} is lost: {reason}"))

    def details(self) -> dict[str, Any]:
        """For status.json: what the job may have, what it uses, what it waits for."""
        context = self._context
        found = {
            "limits": context.limits.as_json(),
            "usage": context.meter.usage.as_json() if context.meter.usage.samples else {},
            "waits_for": context.waits_for,
        }
        return {name: value for name, value in found.items() if value}

    async def _execute_and_send(self) -> JobError | None:
        if uuids := self._entry.state.get("gpus"):
            share_mib = self._entry.state.get("gpu_share_mib", 0)
            self._context.gpus = self._machine.gpus.claim(uuids, share_mib)
        if saved := self._entry.state.get("limits"):
            self._context.limits = Limits.from_json(saved)
            self._machine.capacity.claim(self._entry.key, self._context.limits)
        sending = asyncio.create_task(self._accept_and_send())
        limit_s = float(self.job.runner_info.timeout)
        gone_s = clock.seconds_since(self._entry.state.get("clock"), self.started_at)
        self.control.start_timer(limit_s - gone_s, limit_s)
        try:
            failure = await self._executed()
            await self._is_answered.wait()  # before that the server takes no result
            return failure
        finally:
            self.control.stop_timer()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _executed(self) -> JobError | None:
        """All phases; the error that the job ends with."""
        try:
            work, executor = await self._set_up()
            async with reachable(work, self.desk), metered(work, executor, self._run_log):
                await self._execute(work, executor)
        except JobError as error:
            return error
        except Exception as error:
            log.exception("job %s: failed by an error of ours", self.job.id)
            return SystemFailure(f"{type(error).__name__}: {error}")
        return None

    async def _accept_and_send(self) -> None:
        """Make the claim durable while the server is told of it, then carry the log over."""
        try:
            _, is_ours = await asyncio.gather(self._entry.record(), self._courier.accept())
        finally:
            self._is_answered.set()
        if is_ours:
            self._context.accepted.set()
            await self._courier.run()

    async def _set_up(self) -> tuple[Work, Executor]:
        """The executor, and what the job's variables are in its place. Raises JobError."""
        executor = await asyncio.to_thread(self._machine.executors.make, self._context)
        self._executor = executor
        place = executor.place()
        self._context.variables = job_variables(
            self.job,
            builds_dir=place.builds_dir,
            project_dir=place.project_dir,
            slot=self._slot,
            project_slot=self._number,
            is_shared=place.is_shared,
            environment=self._settings.environment,
            defaults=self._settings.default_environment,
            short_token=self._settings.short_token,
            ca_certificates=await asyncio.to_thread(_trusted_certificates, self._settings.tls_ca_file),
        )
        self._trace.hide(self._context.variables.masked_values())
        self._run_log = run_log_for(self._context.variables, self._settings)
        if "limits" not in self._entry.state:
            self._context.limits = self._limits()
        work = Work(
            entry=self._entry,
            job=self.job,
            settings=self._settings,
            client=self.client,
            machine=self._machine,
            control=self.control,
            trace=self._trace,
            context=self._context,
            place=place,
            slot=self._slot,
        )
        return work, executor

    def _limits(self) -> Limits:
        """What the job asks for, or is given. Raises JobMisconfigured."""
        variables = self._context.variables.environment()
        kind = kind_of(self.job, variables, self._settings.name, self._machine.capacity.kinds)
        return limits_of(variables, self._settings, kind)

    async def _execute(self, work: Work, executor: Executor) -> None:
        """All phases from the one that the journal names. Raises the JobError that the job ends with."""
        scripts = Scripts(work, executor)
        error = ending.restored(self._entry.state.get("error"))
        if self._phase == "prepare":
            await self._entry.record(is_durable=False, phase="prepare")
            await prepare(work, executor, scripts.first)
        if self._phase in ("prepare", "script"):
            self._enter("running")
            error = await scripts.run()
            await self._record(
                "scripted", is_durable=self.job.after_script is not None, error=ending.saved(error)
            )
        self.control.check(is_final=True)
        if self._phase != "finish":
            error = await scripts.run_after(error) or error
        self._enter("finishing")
        self.control.finish()
        await self._record("finish", error=ending.saved(error))
        await self.control.guard(keeping.keep(work, executor.tree(), error), is_final=True)
        await finish(work, executor.tree(), error)
        if error is not None:
            raise error

    async def _record(self, phase: str, *, is_durable: bool = False, **fields: Any) -> None:
        await self._entry.record(is_durable=is_durable, phase=phase, trace=self._spool.size, **fields)

    # ---- the end

    async def _decide(self, error: JobError | None) -> None:
        """The last words of the log, and the result."""
        context = self._context
        ending.say_last_words(self._trace, error, summary(context.meter.usage, context.limits))
        result = ending.result_of(error, self.job.features.failure_reasons)
        self._entry.state["result"] = None if isinstance(error, JobLost) else result
        log.info("job %s: %s", self.job.id, "succeeded" if error is None else f"failed: {error}")
        if self._run_log is not None:
            if not isinstance(error, JobLost):
                await self._run_log.end(ending.cause_of(error), str(error or ""), context.meter.usage)
            await self._run_log.close()

    async def _remember_result(self, *, is_durable: bool) -> None:
        """A disk that can't take it does not keep the result from being reported."""
        result, acknowledged = self._entry.state["result"], self._courier.acknowledged
        try:
            if is_durable:
                await asyncio.to_thread(self._spool.sync)
            await self._record("report", is_durable=is_durable, result=result, acknowledged=acknowledged)
        except OSError as error:
            log.warning("job %s: its result can't be kept on disk: %s", self.job.id, error)

    async def _report(self) -> None:
        if (result := self._entry.state["result"]) is not None:
            await self._courier.deliver(
                result["state"],
                result["failure_reason"],
                result["exit_code"],
                is_given_back=result.get("is_given_back", False),
            )

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
        self._machine.capacity.give_back(self._entry.key)
        self._machine.project_numbers.give_back(self._project, self._number)
        self._machine.data.release(self._entry.key)
        self.is_off_slot.set()

    def _folder(self) -> LiveFolder | None:
        is_over = self._executor is None or self.state == "reporting"
        return None if is_over or self._executor is None else self._executor.folder()

    def _enter(self, state: str) -> None:
        self.state = state
        self._on_change()

    def _on_verdict(self, verdict: Verdict, answer: JobAnswer) -> None:
        said = answer.job_status or answer.status
        log.info("job %s: the server says %s (%s)", self.job.id, verdict.value, said)
        if verdict is Verdict.CANCEL:
            self.control.cancel()
        else:
            self.control.abort(was_canceled=answer.job_status == "canceled")

    def _secrets(self) -> list[str]:
        values = [v.value for v in self.job.variables if v.masked]
        values += [self.job.token, self._settings.token.get_secret_value()]
        values += [d.token for d in self.job.dependencies]
        values += [c.password for c in self.job.credentials]
        return [value for value in values if value]


def _trusted_certificates(path: str) -> str:
    """What the runner trusts besides its system's, for the job; "" where nothing is configured or readable."""
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        log.warning("tls_ca_file %s can't be read, so jobs do not get it: %s", path, error)
        return ""
