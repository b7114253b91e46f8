"""What the experiments feature needs of tracking (MLflow's runs); `nautilus.tracking` implements it.

Every method works in the caller's unit of work, so that an experiment and its run are made, and end,
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus.core.states import ExperimentState


@dataclass(frozen=True)
class NewRun:
    """A run to make. Its MLflow experiment is the project: `mlflow_experiment_id` is `str(project_id)`."""

    run_id: str
    name: str
    project_id: int
    project_path: str
    username: str
    params: Mapping[str, Any]
    """Values as submitted (str, int, float, bool); one may be longer than MLflow takes: truncate it."""
    tags: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True)
class MetricPoint:
    """`step` is a signed 64-bit number; `timestamp_ms` is Unix time."""

    key: str
    value: float
    timestamp_ms: int
    step: int = 0


@dataclass(frozen=True)
class MetricBatch:
    """Points in the order of their arrival; `cursor` is where the next read goes on (opaque, ASCII, no
    comma)."""

    points: list[MetricPoint]
    cursor: str


@dataclass(frozen=True)
class Artifact:
    """`path` is relative to the run's artifact root, with `/`."""

    path: str
    size_bytes: int


class Tracking(Protocol):
    async def create_run(self, session: AsyncSession, run: NewRun) -> None:
        """Makes the MLflow experiment of the project where it is missing. The run is SCHEDULED."""
        ...

    async def set_run_state(
        self,
        session: AsyncSession,
        run_id: str,
        state: ExperimentState,
        *,
        started_at: datetime | None,
        finished_at: datetime | None,
    ) -> None:
        """queued/starting: SCHEDULED; running/canceling: RUNNING; succeeded: FINISHED; failed: FAILED;
        canceled: KILLED."""
        ...

    async def log_metrics(
        self, session: AsyncSession, run_id: str, points: Sequence[MetricPoint]
    ) -> None: ...

    async def last_metrics(
        self, session: AsyncSession, run_ids: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """Of each run: metric → its latest value (greatest step, then time), as MLflow means it."""
        ...

    def last_metric_value(self, run_id: ColumnElement[str], key: str) -> ColumnElement[float | None]:
        """SQL for a run's latest value of one metric (a correlated scalar subquery): to order by."""
        ...

    async def metric_history(
        self, session: AsyncSession, run_id: str, key: str, *, limit: int
    ) -> list[MetricPoint]:
        """By step, then time."""
        ...

    async def metrics_after(
        self, session: AsyncSession, run_id: str, cursor: str, *, limit: int
    ) -> MetricBatch:
        """Points that arrived after `cursor`; "" reads from the first."""
        ...

    async def metric_peaks(self, session: AsyncSession, run_id: str, prefix: str) -> dict[str, float]:
        """The highest value that each metric ever had whose name begins so."""
        ...

    async def run_tags(self, session: AsyncSession, run_id: str, prefix: str) -> dict[str, str]:
        """The run's tags whose names begin so."""
        ...

    async def artifacts(self, session: AsyncSession, run_id: str) -> list[Artifact]: ...

    def artifact_uri(self, project_id: int, run_id: str) -> str:
        """MLflow's `artifact_uri` of the run."""
        ...
