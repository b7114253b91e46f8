"""The runner as a whole: asks its servers for jobs while there is room (serving.py), and sees each job through
(workload.py).

One held request per registration; a job is in the journal before anything of it begins. `detach` leaves jobs
running for the next start to find; `end_jobs` ends and reports them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

from nautilus_runner import status
from nautilus_runner.asking import Asking, Registration
from nautilus_runner.cache import LocalCache
from nautilus_runner.capacity import machine_room
from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.client import Coordinator
from nautilus_runner.data.hub import DataHub
from nautilus_runner.disk import MIB, Reserve
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpus.keeper import GpuKeeper
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.job import JobRun
from nautilus_runner.journal import Journal
from nautilus_runner.network.probing import Prober
from nautilus_runner.pruning.janitor import Belongings, Janitor
from nautilus_runner.quota import Quota
from nautilus_runner.serving import Serving
from nautilus_runner.settings import RunnerSettings, Settings
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.system_id import ensure_system_id
from nautilus_runner.work import Machine
from nautilus_runner.workload import Workload

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
        self._machine = make_machine(data_dir)
        self._settings = Settings(data_dir=data_dir)
        self._janitor = Janitor(
            Belongings(
                data_dir,
                self._machine.system_id,
                self._machine.data.store,
                self._machine.lfs,
                self._machine.disk,
                self._machine.executors,
                self._is_known,
                self._machine.mirrors,
                self._machine.checkpoints,
            )
        )
        self._is_stopping = False
        self._quota = Quota()
        self._drained = data_dir / DRAINED
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._workload = Workload(self._machine, self._journal, self._note_change, self._release)
        self._prober = Prober(self._machine.executors, self._machine.system_id, self._note_change)
        self._serving = Serving(self._asking(), self._prober, self._client, self._workload.is_using)
        self._status_task: asyncio.Task[None] | None = None
        self._gpu_keeper = GpuKeeper(
            self._machine.gpus, self._machine.executors, self._machine.system_id, data_dir, os.environ
        )
        self._machine.gpus.on_aside = self._workload.lose_gpu
        self._gpu_task: asyncio.Task[None] | None = None

    async def start(self, settings: Settings) -> None:
        """Take up what the journal knows, remove what it does not, then ask for jobs."""
        self._status_task = asyncio.create_task(self._keep_status())
        self._workload.take_up()
        await self.apply(settings)
        await self._machine.executors.remove_orphans(settings.runners, self._is_known)
        await asyncio.to_thread(self._machine.data.store.release_unknown, self._is_known)
        self._janitor.start(lambda: self._settings)

    async def apply(self, settings: Settings) -> None:
        """New settings: registrations come and go, running jobs keep the settings that they began with."""
        self._settings = settings
        self._machine.slots.resize(settings.concurrent, settings.capacity.most_waiting)
        room = machine_room(settings.capacity, self._data_dir)
        self._machine.capacity.resize(room, settings.capacity.patience_s, settings.kinds)
        self._machine.data.configure(settings.data)
        self._machine.disk.reserve_bytes = settings.disk.reserve_mib * MIB
        self._quota.set_bound(settings.exit_after_jobs)
        if self._gpu_task is None and settings.runners:
            self._gpu_task = asyncio.create_task(self._gpu_keeper.run(settings, self._note_change))
        self._serving.apply(() if self.is_draining else settings.runners)
        self._note_change()

    async def prune(self, *, is_all: bool, is_dry: bool) -> dict[str, object]:
        """Remove what nobody uses; what went, as JSON."""
        outcome = await asyncio.to_thread(self._janitor.prune, self._settings, is_all=is_all, is_dry=is_dry)
        return outcome.as_json()

    def _is_known(self, key: str) -> bool:
        """Whether what carries this key belongs to a job, or to a self-test of a GPU, and is no orphan."""
        return self._journal.has(key) or self._gpu_keeper.is_testing(key)

    # ---- draining and ending

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

    async def stop_taking(self) -> None:
        self._is_stopping = True
        self._note_change()
        await self._serving.stop()

    async def detach(self) -> None:
        """Let go of all jobs: they run on, the journal knows them."""
        await self.stop_taking()
        await self._workload.let_go()
        await self._close()

    async def end_jobs(self, grace_s: float) -> None:
        """End all jobs and report them; what can't be reported in `grace_s` is reported at the next start."""
        await self.stop_taking()
        await self._workload.end(grace_s)
        await self.detach()

    async def hand_back(self, grace_s: float, *, is_preempting: bool) -> None:
        """Give jobs that have not begun back to their servers; let go of the others, or preempt them too."""
        await self.stop_taking()
        await self._workload.hand_back(grace_s, is_preempting=is_preempting)
        await self.detach()

    def preempt(self, job_id: int) -> None:
        """Ask a job to end and give it back, to be run again. Raises ControlRefused."""
        self._workload.preempt(job_id)

    def preempt_all(self) -> None:
        """All jobs that are not over."""
        self._workload.preempt_all()

    @property
    def jobs(self) -> list[JobRun]:
        return self._workload.jobs

    @property
    def is_idle(self) -> bool:
        return not self._workload.jobs

    @property
    def is_done(self) -> bool:
        """It ends by itself: all jobs that it may take are over, or there have been none for too long."""
        if not self.is_idle:
            return False
        limit_s = self._settings.exit_when_idle_s
        return self._quota.is_used_up or 0 < limit_s <= self._workload.idle_s

    # ---- asking

    def _asking(self) -> Asking:
        machine, workload = self._machine, self._workload
        return Asking(
            machine.capacity, machine.slots, self._quota, self._check_executor, workload.begin, self._say
        )

    def _client(self, settings: RunnerSettings) -> Coordinator:
        machine = self._machine
        return Coordinator(settings, machine.system_id, lambda: len(machine.gpus.gpus))

    async def _release(self, client: Coordinator) -> None:
        await self._serving.release(client)

    async def _check_executor(self, settings: RunnerSettings) -> None:
        self._machine.disk.check()
        if settings.executor == "docker":
            await asyncio.to_thread(self._machine.executors.daemon, settings.docker.host)

    # ---- telling

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
        served = self._serving.registrations
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
            busy=self._machine.slots.busy,
            warnings=self._prober.warnings,
            gpus=self._machine.gpus.states(),
            capacity={**self._machine.capacity.as_json(), "waiting": self._machine.slots.parked},
            jobs=[
                {
                    "id": run.job.id,
                    "state": run.state,
                    "started_at": status.timestamp(run.started_at),
                    **run.details(),
                }
                for run in self.jobs
            ],
        )

    def _state(self, is_ready: bool) -> str:
        if self._is_stopping:
            return "stopping"
        if self.is_draining:
            return "draining"
        if is_ready:
            return "ready"
        return "full" if self._machine.disk.is_short else "connecting"

    async def _close(self) -> None:
        self._janitor.stop()
        tasks = [task for task in (self._status_task, self._gpu_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._settings.status_file is not None:
            status.write_status(self._settings.status_file, self.status())
        await asyncio.to_thread(self._machine.executors.close, self._journal.has)


def make_machine(data_dir: Path) -> Machine:
    """What all jobs share, below the runner's own folder."""
    system_id = ensure_system_id(data_dir)
    reserve = Reserve((data_dir,))
    return Machine(
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
