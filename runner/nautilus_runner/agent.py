"""The runner as a whole: asks its servers for jobs while there is room, and sees each job through.

One held request per registration; a job is in the journal before anything of it begins. `detach` leaves jobs
running for the next start to find; `end_jobs` ends and reports them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from pathlib import Path

from nautilus_runner import status
from nautilus_runner.asking import Asking, Registration, identity_of
from nautilus_runner.cache import LocalCache
from nautilus_runner.capacity import machine_room
from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.claims import journaled
from nautilus_runner.client import Coordinator, Offer
from nautilus_runner.data.hub import DataHub
from nautilus_runner.disk import MIB, Reserve
from nautilus_runner.errors import (
    ConfigurationError,
    ControlRefused,
    RunnerError,
)
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpus.keeper import GpuKeeper
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.job import JobRun
from nautilus_runner.journal import Entry, Journal, entry_key
from nautilus_runner.network.probing import Prober
from nautilus_runner.payload import Job
from nautilus_runner.pruning.janitor import Belongings, Janitor
from nautilus_runner.quota import Quota
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.slots import Slots
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.work import Machine

log = logging.getLogger(__name__)

DRAINED = "drained"
"""A file in the data folder: this machine takes no jobs, whatever restarts."""
_STATUS_EVERY_S = 5.0
_STATUS_AT_MOST_EVERY_S = 0.05


class Agent:
    """Lives as long as the service; `apply` takes new settings at any time."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._journal = Journal(data_dir / "journal")
        self._slots = Slots(1)
        system_id = ensure_system_id(data_dir)
        reserve = Reserve((data_dir,))
        self._machine = Machine(
            system_id=system_id,
            mirrors=Mirrors(data_dir / "mirrors"),
            lfs=LfsStore(data_dir / "lfs"),
            cache=LocalCache(data_dir / "cache"),
            data=DataHub(data_dir / "data", reserve),
            disk=reserve,
            checkpoints=CheckpointStore(data_dir / "checkpoints"),
            gpus=GpuPool(is_settled=False),
            executors=Factory(data_dir, system_id),
        )
        self._settings = Settings(data_dir=data_dir)
        self._janitor = Janitor(
            Belongings(
                data_dir,
                system_id,
                self._machine.data.store,
                self._machine.lfs,
                reserve,
                self._machine.executors,
                self._is_known,
            )
        )
        self._registrations: dict[tuple[str, ...], Registration] = {}
        self._jobs: dict[str, tuple[JobRun, asyncio.Task[None]]] = {}
        self._is_stopping = False
        self._quota = Quota()
        self._idle_since = time.monotonic()
        self._drained = data_dir / DRAINED
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._asking = Asking(
            self._machine.capacity, self._slots, self._quota, self._check_executor, self._begin, self._say
        )
        self._status_task: asyncio.Task[None] | None = None
        self._gpu_keeper = GpuKeeper(
            self._machine.gpus, self._machine.executors, system_id, data_dir, os.environ
        )
        self._machine.gpus.on_aside = self._lose_gpu
        self._gpu_task: asyncio.Task[None] | None = None
        self._prober = Prober(self._machine.executors, system_id, self._note_change)

    async def start(self, settings: Settings) -> None:
        """Take up what the journal knows, remove what it does not, then ask for jobs."""
        self._status_task = asyncio.create_task(self._keep_status())
        for entry in self._journal.entries():
            try:
                self._resume(entry)
            except OSError as error:
                log.error("journal: job %s can't be taken up now: %s", entry.key, error)
            except (RunnerError, ValueError, KeyError) as error:
                log.warning("journal: job %s can't be taken up: %s", entry.key, error)
                entry.forget()
        await self.apply(settings)
        await self._machine.executors.remove_orphans(settings.runners, self._is_known)
        await asyncio.to_thread(self._machine.data.store.release_unknown, self._is_known)
        self._janitor.start(lambda: self._settings)

    async def apply(self, settings: Settings) -> None:
        """New settings: registrations come and go, running jobs keep the settings that they began with."""
        self._settings = settings
        self._slots.resize(settings.concurrent)
        room = machine_room(settings.capacity, self._data_dir)
        self._machine.capacity.resize(room, settings.capacity.patience_s, settings.kinds)
        self._machine.data.configure(settings.data)
        self._machine.disk.reserve_bytes = settings.disk.reserve_mib * MIB
        self._quota.set_bound(settings.exit_after_jobs)
        if self._gpu_task is None and settings.runners:
            self._gpu_task = asyncio.create_task(self._gpu_keeper.run(settings, self._note_change))
        wanted = {} if self.is_draining else {identity_of(runner): runner for runner in settings.runners}
        for identity in set(self._registrations) - set(wanted):
            self._leave(self._registrations.pop(identity))
        for identity, runner in wanted.items():
            joined = self._registrations.get(identity)
            if joined is None:
                joined = self._registrations[identity] = Registration(runner)
                joined.task = asyncio.create_task(self._serve(joined))
            elif joined.settings == runner:
                continue
            joined.settings = runner
            self._probe(joined)
        self._note_change()

    def _lose_gpu(self, uuid: str, reason: str) -> None:
        for run, _ in self._jobs.values():
            run.lose_gpu(uuid, reason)
        self._note_change()

    async def prune(self, *, is_all: bool, is_dry: bool) -> dict[str, object]:
        """Remove what nobody uses; what went, as JSON."""
        outcome = await asyncio.to_thread(self._janitor.prune, self._settings, is_all=is_all, is_dry=is_dry)
        return outcome.as_json()

    def _is_known(self, key: str) -> bool:
        """Whether what carries this key belongs to a job, or to a self-test of a GPU, and is no orphan."""
        return self._journal.has(key) or self._gpu_keeper.is_testing(key)

    def _leave(self, registration: Registration) -> None:
        for task in (registration.task, registration.probing):
            if task is not None:
                task.cancel()
        self._prober.forget(registration.settings.label)

    def _probe(self, registration: Registration) -> None:
        """Ask, beside everything else, whether jobs reach what they are told of."""
        if registration.probing is not None:
            registration.probing.cancel()
        watching = self._prober.watch(registration.settings, lambda: not registration.reason)
        registration.probing = asyncio.create_task(watching)

    # ---- draining

    @property
    def is_draining(self) -> bool:
        return self._drained.exists()

    async def drain(self, *, is_undone: bool = False) -> None:
        """Take no more jobs, also after a restart, until undone; those at work go on."""
        if is_undone:
            self._drained.unlink(missing_ok=True)
        else:
            self._drained.touch(mode=0o600)
        log.info("takes jobs again" if is_undone else "drained: takes no more jobs")
        await self.apply(self._settings)

    async def until_change(self, timeout_s: float) -> None:
        """Wait for the next change of what `status` says, at most so long."""
        news = self._news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await news.wait()

    def _note_change(self) -> None:
        self._changed.set()
        self._news.set()
        self._news = asyncio.Event()

    async def stop_taking(self) -> None:
        self._is_stopping = True
        self._note_change()
        tasks = [
            task for r in self._registrations.values() for task in (r.task, r.probing) if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def detach(self) -> None:
        """Let go of all jobs: they run on, the journal knows them."""
        await self.stop_taking()
        tasks = [task for _, task in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def end_jobs(self, grace_s: float) -> None:
        """End all jobs and report them; what can't be reported in `grace_s` is reported at the next start."""
        await self.stop_taking()
        for run, _ in self._jobs.values():
            run.control.interrupt()
        tasks = [task for _, task in self._jobs.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        await self.detach()

    async def hand_back(self, grace_s: float, *, is_preempting: bool) -> None:
        """Give jobs that have not begun back to their servers; let go of the others, or preempt them too."""
        await self.stop_taking()
        given = [task for run, task in self._jobs.values() if run.state == "preparing" or is_preempting]
        for run, task in self._jobs.values():
            if task in given:
                run.control.preempt("this machine ends its work")
        if given:
            await asyncio.wait(given, timeout=grace_s)
        await self.detach()

    def preempt(self, job_id: int) -> None:
        """Ask a job to end and give it back, to be run again. Raises ControlRefused."""
        found = [run for run, _ in self._jobs.values() if run.job.id == job_id]
        if not found:
            raise ControlRefused(
                f"job {job_id} is not on this runner; `nautilus-runner status` lists those that are"
            )
        for run in found:
            if run.state not in ("preparing", "running"):
                raise ControlRefused(f"job {job_id} is over: it is {run.state}")
            run.control.preempt("its place is needed")

    def preempt_all(self) -> None:
        """All jobs that are not over."""
        for run, _ in self._jobs.values():
            if run.state in ("preparing", "running"):
                run.control.preempt("this machine is drained")

    @property
    def jobs(self) -> list[JobRun]:
        return [run for run, _ in self._jobs.values()]

    @property
    def is_idle(self) -> bool:
        return not self._jobs

    @property
    def is_done(self) -> bool:
        """It ends by itself: all jobs that it may take are over, or there have been none for too long."""
        if self._jobs:
            return False
        limit_s = self._settings.exit_when_idle_s
        return self._quota.is_used_up or 0 < limit_s <= time.monotonic() - self._idle_since

    # ---- asking

    async def _serve(self, registration: Registration) -> None:
        """Ask one server for jobs until cancelled."""
        try:
            client = Coordinator(
                registration.settings, self._machine.system_id, lambda: len(self._machine.gpus.gpus)
            )
        except ConfigurationError as error:
            self._say(registration, str(error))
            return
        registration.client = client
        try:
            await self._asking.run(registration, client)
        finally:
            await asyncio.shield(self._release(client))

    async def _release(self, client: Coordinator) -> None:
        """The client is shared with the jobs that came through it: it is closed with the last of them."""
        is_asking = any(
            r.client is client and r.task and not r.task.done() for r in self._registrations.values()
        )
        is_working = any(run.client is client for run, _ in self._jobs.values())
        if not is_working and (self._is_stopping or not is_asking):
            await client.close()

    async def _check_executor(self, settings: RunnerSettings) -> None:
        self._machine.disk.check()
        if settings.executor == "docker":
            await asyncio.to_thread(self._machine.executors.daemon, settings.docker.host)

    async def _begin(self, offer: Offer, settings: RunnerSettings, client: Coordinator, slot: int) -> bool:
        """Journal a job and set it going; True: the slot is its. Raises DiskFull where it can't be journaled."""
        job = offer.job
        assert job is not None
        key = entry_key(settings.url, job.id)
        if key in self._jobs:
            log.warning("job %s was offered twice; the one that runs goes on", job.id)
            return False
        entry = await journaled(self._journal, key, offer, settings)
        log.info("job %s (%s of %s) taken", job.id, job.job_info.name, job.job_info.project_full_path)
        self._slots.use(slot)
        self._run(entry, job, settings, client, slot)
        return True

    def _resume(self, entry: Entry) -> None:
        job = Job.model_validate(entry.state["payload"])
        settings = RunnerSettings.model_validate(entry.state["settings"])
        client = Coordinator(settings, self._machine.system_id)
        log.info("job %s: taken up again (%s)", job.id, entry.state.get("phase", "prepare"))
        self._run(entry, job, settings, client, self._slots.occupy(identity_of(settings)))

    def _run(self, entry: Entry, job: Job, settings: RunnerSettings, client: Coordinator, slot: int) -> None:
        run = JobRun(entry, job, settings, client, self._machine, slot, self._note_change)
        task = asyncio.create_task(self._see_through(entry.key, run, slot))
        self._jobs[entry.key] = (run, task)
        self._note_change()

    async def _see_through(self, key: str, run: JobRun, slot: int) -> None:
        freeing = asyncio.create_task(self._free(run, slot))
        try:
            await run.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("job %s: left in the journal for the next start", run.job.id)
        finally:
            run.is_off_slot.set()
            await asyncio.shield(freeing)
            self._jobs.pop(key, None)
            self._idle_since = time.monotonic()
            self._note_change()
            await asyncio.shield(self._release(run.client))

    async def _free(self, run: JobRun, slot: int) -> None:
        """The slot is free once the job only has its result to deliver."""
        await run.is_off_slot.wait()
        self._slots.give_back(slot)
        self._note_change()

    # ---- telling

    def _say(self, registration: Registration, reason: str) -> None:
        if registration.reason != reason:
            registration.reason = reason
            if reason:
                log.warning("%s: %s", registration.settings.label, reason)
            else:
                log.info("%s: %s answers", registration.settings.label, registration.settings.url)
            self._note_change()

    async def _keep_status(self) -> None:
        while True:
            self._changed.clear()
            if self._settings.status_file is not None:
                status.write_status(self._settings.status_file, self.status())
            await asyncio.sleep(_STATUS_AT_MOST_EVERY_S)  # a job changes five times within a blink
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_EVERY_S):
                    await self._changed.wait()

    def status(self) -> status.Status:
        served = self._registrations.values()
        reasons = [f"{r.settings.label}: {r.reason}" for r in served if r.reason]
        is_ready = len(reasons) < len(served)
        if self.is_draining:
            reasons = ["drained: takes no jobs until `nautilus-runner drain --undo`"]
        elif not served:
            reasons = ["no [[runners]] entry in the configuration yet"]
        return status.Status(
            state=self._state(is_ready),
            reason="; ".join(reasons),
            executors=tuple(dict.fromkeys(runner.executor for runner in self._settings.runners)),
            total=self._settings.concurrent,
            busy=self._slots.busy,
            warnings=self._prober.warnings,
            gpus=self._machine.gpus.states(),
            capacity=self._machine.capacity.as_json(),
            jobs=[
                {
                    "id": run.job.id,
                    "state": run.state,
                    "started_at": status.timestamp(run.started_at),
                    **run.details(),
                }
                for run, _ in self._jobs.values()
            ],
        )

    def _state(self, is_ready: bool) -> str:
        if self._is_stopping:
            return "stopping"
        if self.is_draining:
            return "draining"
        return "ready" if is_ready else "connecting"

    async def _close(self) -> None:
        self._janitor.stop()
        tasks = [task for task in (self._status_task, self._gpu_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._settings.status_file is not None:
            status.write_status(self._settings.status_file, self.status())
        await asyncio.to_thread(self._machine.executors.close, self._journal.has)


def ensure_system_id(data_dir: Path) -> str:
    """This installation's name for itself, made once (`s_` and 12 hex digits, as gitlab-runner's)."""
    path = data_dir / "system_id"
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    made = f"s_{secrets.token_hex(6)}"
    path.write_text(made + "\n")
    return made
