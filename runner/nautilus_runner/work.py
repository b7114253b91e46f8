"""One job on this machine: what all of its stages need, put together once."""

from __future__ import annotations

from dataclasses import dataclass, field

from nautilus_runner.cache import LocalCache
from nautilus_runner.capacity import Capacity
from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.client import Coordinator
from nautilus_runner.control import Control
from nautilus_runner.data.hub import DataHub
from nautilus_runner.disk import Reserve
from nautilus_runner.executors.base import Context, Place
from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.journal import Entry
from nautilus_runner.numbering import ProjectNumbers
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.slots import Slots
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.trace.writer import TraceWriter
from nautilus_runner.variables import Variables


@dataclass(frozen=True, slots=True)
class Machine:
    """What all jobs of this runner share."""

    system_id: str
    mirrors: Mirrors
    lfs: LfsStore
    cache: LocalCache
    data: DataHub
    disk: Reserve
    checkpoints: CheckpointStore
    gpus: GpuPool
    executors: Factory
    capacity: Capacity = field(default_factory=Capacity)
    slots: Slots = field(default_factory=lambda: Slots(1))
    project_numbers: ProjectNumbers = field(default_factory=ProjectNumbers)


@dataclass(frozen=True, slots=True)
class Work:
    """`place` is known once the executor is; `context` is what the executor sees of the job."""

    entry: Entry
    job: Job
    settings: RunnerSettings
    client: Coordinator
    machine: Machine
    control: Control
    trace: TraceWriter
    context: Context
    place: Place
    slot: int

    @property
    def variables(self) -> Variables:
        return self.context.variables

    @property
    def cache_scope(self) -> str:
        return f"{self.settings.url} {self.job.job_info.project_id}"

    @property
    def grace_s(self) -> float:
        """Between SIGTERM and SIGKILL."""
        settings = self.settings
        return settings.docker.grace_s if settings.executor == "docker" else settings.process.grace_s


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a job's way; what each of them asks of the job most."""

    work: Work

    @property
    def job(self) -> Job:
        return self.work.job

    @property
    def settings(self) -> RunnerSettings:
        return self.work.settings

    @property
    def trace(self) -> TraceWriter:
        return self.work.trace

    @property
    def variables(self) -> Variables:
        return self.work.variables
