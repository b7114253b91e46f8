"""Tracking as the rest of management uses it: one `TrackingService` per process.

The MLflow endpoints (`routes`) are one side of it; the other is the port of the experiments feature
(`nautilus.experiments.ports.Tracking`), whose methods work in the caller's unit of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import ColumnElement, event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from nautilus.auth import Authenticator
from nautilus.core.states import ExperimentState
from nautilus.db.models.tracking import TrackingLatestMetric, TrackingMetricKey, TrackingRun
from nautilus.experiments.ports import Artifact, MetricBatch, MetricPoint
from nautilus.experiments.ports import NewRun as SubmittedRun
from nautilus.gitlab.port import GitLab
from nautilus.tracking import cursors, curves
from nautilus.tracking.access import Access, RunFacts, find_run, no_such_run
from nautilus.tracking.artifacts import ArtifactStore, Location
from nautilus.tracking.entities import RUN_STATUS, artifact_uri
from nautilus.tracking.experiments import Experiments, ensure_experiment
from nautilus.tracking.live import Live
from nautilus.tracking.points import KeyNumbers, Points, insert
from nautilus.tracking.pool import Connection, Pool, prepare_connection
from nautilus.tracking.runs import NewRun, insert_run, not_active
from nautilus.tracking.validation import (
    MAX_KEY_LENGTH,
    MAX_PARAM_VALUE_LENGTH,
    MAX_TAG_VALUE_LENGTH,
    check_metric_key,
)

CONNECTIONS = 4
LOG_CONNECTIONS = 2
"""Metrics have their own, so that no slow search makes a training loop wait."""
_STATUS_OF = {
    ExperimentState.QUEUED: "SCHEDULED",
    ExperimentState.STARTING: "SCHEDULED",
    ExperimentState.RUNNING: "RUNNING",
    ExperimentState.CANCELING: "RUNNING",
    ExperimentState.SUCCEEDED: "FINISHED",
    ExperimentState.FAILED: "FAILED",
    ExperimentState.CANCELED: "KILLED",
}


class TrackingService:
    """Make it with the application, `close()` it at the end. Connects at first use."""

    def __init__(
        self,
        database_url: str,
        data_dir: Path,
        spool_dir: Path,
        authenticator: Authenticator,
        gitlab: GitLab,
        wake: Callable[[str], None],
    ) -> None:
        """`wake(run_id)` is called when a run has new points."""
        self.pool = Pool(database_url, CONNECTIONS)
        self._log_pool = Pool(database_url, LOG_CONNECTIONS)
        self.access = Access(authenticator, gitlab, self.pool)
        self.experiments = Experiments(self.pool, self.access)
        self.store = ArtifactStore(data_dir, spool_dir)
        self.keys = KeyNumbers()
        self.live = Live(wake)

    async def close(self) -> None:
        await self.pool.close()
        await self._log_pool.close()

    async def log(self, run: RunFacts, points: Points) -> None:
        """Stores points durably and tells who watches. Raises InvalidParameter where the run is deleted."""
        if not points.keys:
            return
        is_stored = await self._log_pool.run(
            lambda connection: insert(connection, self.keys, run.number, points)
        )
        if not is_stored:
            raise not_active(run.run_id)
        self.live.committed(run.run_id, points)

    # The port of the experiments feature.

    async def create_run(self, session: AsyncSession, run: SubmittedRun) -> None:
        """The run of a submitted experiment, scheduled; its MLflow experiment is made where it is missing."""
        connection = await _connection_of(session)
        await ensure_experiment(connection, run.project_id, run.project_path)
        await insert_run(
            connection,
            NewRun(
                experiment_id=run.project_id,
                name=run.name,
                user_name=run.username,
                start_time_ms=_ms(run.created_at),
                run_id=run.run_id,
                status=RUN_STATUS["SCHEDULED"],
                tags={
                    "mlflow.user": run.username,
                    **{
                        _cut(key, MAX_KEY_LENGTH): _cut(value, MAX_TAG_VALUE_LENGTH)
                        for key, value in run.tags.items()
                    },
                },
                params={
                    _cut(key, MAX_KEY_LENGTH): _cut(_param_text(value), MAX_PARAM_VALUE_LENGTH)
                    for key, value in run.params.items()
                },
            ),
        )

    async def set_run_state(
        self,
        session: AsyncSession,
        run_id: str,
        state: ExperimentState,
        *,
        started_at: datetime | None,
        finished_at: datetime | None,
    ) -> None:
        """The experiment's state as MLflow's status; what the script said of its own end stands until then."""
        connection = await _connection_of(session)
        status = RUN_STATUS[_STATUS_OF[state]]
        await connection.execute(
            "UPDATE tracking_run SET start_time_ms = coalesce(%(start)s::bigint, start_time_ms),"
            " status = CASE WHEN %(is_final)s OR end_time_ms IS NULL THEN %(status)s ELSE status END,"
            " end_time_ms = CASE WHEN %(is_final)s THEN coalesce(%(end)s::bigint, end_time_ms) ELSE end_time_ms END"
            " WHERE run_id = %(run_id)s",
            {
                "start": None if started_at is None else _ms(started_at),
                "end": None if finished_at is None else _ms(finished_at),
                "is_final": state.is_final,
                "status": status,
                "run_id": run_id,
            },
        )

    async def log_metrics(self, session: AsyncSession, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Adds points; a deleted run takes none. Raises NotFound, InvalidParameter (a name MLflow would refuse)."""
        if not points:
            return
        columns = Points.none()
        for point in points:
            columns.add(check_metric_key(point.key), point.step, point.timestamp_ms, point.value)
        # Numbers of names must not be remembered from a transaction that may yet be rolled back.
        async with self.pool.connection() as own:
            await self.keys.numbers(own, columns.keys)
        connection = await _connection_of(session)
        run = await find_run(connection, run_id)
        if run is None:
            raise no_such_run(run_id)
        if await insert(connection, self.keys, run.number, columns):
            event.listen(
                session.sync_session,
                "after_commit",
                lambda _: self.live.committed(run_id, columns),
                once=True,
            )

    async def last_metrics(
        self, session: AsyncSession, run_ids: Sequence[str]
    ) -> dict[str, dict[str, float]]:
        """Of each run: metric → its latest value."""
        connection = await _connection_of(session)
        rows = await connection.execute(
            "SELECT r.run_id, k.name, m.value FROM tracking_run r JOIN tracking_latest_metric m ON m.run = r.id"
            " JOIN tracking_metric_key k ON k.id = m.key WHERE r.run_id = ANY(%s) ORDER BY k.name",
            (list(run_ids),),
        )
        found: dict[str, dict[str, float]] = {run_id: {} for run_id in run_ids}
        for run_id, key, value in await rows.fetchall():
            found[run_id][key] = value
        return found

    def last_metric_value(self, run_id: ColumnElement[str], key: str) -> ColumnElement[float | None]:
        """SQL for a run's latest value of one metric: to order by."""
        latest, run, name = aliased(TrackingLatestMetric), aliased(TrackingRun), aliased(TrackingMetricKey)
        return (
            select(latest.value)
            .join(run, run.id == latest.run)
            .join(name, name.id == latest.key)
            .where(run.run_id == run_id, name.name == key)
            .correlate_except(latest, run, name)
            .scalar_subquery()
        )

    async def metric_peaks(self, session: AsyncSession, run_id: str, prefix: str) -> dict[str, float]:
        """The highest value that each metric ever had whose name begins so; NaN is none."""
        connection = await _connection_of(session)
        rows = await connection.execute(
            "SELECT k.name, max(m.value) FROM tracking_run r JOIN tracking_latest_metric l ON l.run = r.id"
            " JOIN tracking_metric_key k ON k.id = l.key JOIN tracking_metric m ON m.run = r.id AND m.key = l.key"
            " WHERE r.run_id = %s AND starts_with(k.name, %s) AND m.value <> 'NaN' GROUP BY k.name",
            (run_id, prefix),
        )
        return {str(name): float(value) for name, value in await rows.fetchall()}

    async def run_tags(self, session: AsyncSession, run_id: str, prefix: str) -> dict[str, str]:
        """The run's tags whose names begin so."""
        connection = await _connection_of(session)
        rows = await connection.execute(
            "SELECT t.key, t.value FROM tracking_run r JOIN tracking_tag t ON t.run = r.id"
            " WHERE r.run_id = %s AND starts_with(t.key, %s)",
            (run_id, prefix),
        )
        return {str(key): str(value) for key, value in await rows.fetchall()}

    async def metric_history(
        self, session: AsyncSession, run_id: str, key: str, *, limit: int
    ) -> list[MetricPoint]:
        """By step, then time: at most `limit` points, chosen so that no spike is lost."""
        connection = await _connection_of(session)
        run = await find_run(connection, run_id)
        if run is None:
            return []
        found = await curves.drawing(connection, run.number, key, limit)
        return [MetricPoint(key, value, timestamp_ms, step) for step, timestamp_ms, value in found]

    async def metrics_after(
        self, session: AsyncSession, run_id: str, cursor: str, *, limit: int
    ) -> MetricBatch:
        """Points since `cursor`: first the curves as they are, one by one, then what arrives. None is left out."""
        connection = await _connection_of(session)
        run = await find_run(connection, run_id)
        if run is None:
            return MetricBatch([], "")
        return await cursors.read(connection, self.live, run, cursor, limit)

    async def artifacts(self, session: AsyncSession, run_id: str) -> list[Artifact]:
        """Every file of the run (the first 10,000), by path."""
        run = await find_run(await _connection_of(session), run_id)
        if run is None:
            return []
        where = Location(run.experiment_id, run.run_id, None, ())
        files = await asyncio.to_thread(self.store.files, where)
        return [Artifact(info.path, info.size_bytes or 0) for info in files]

    def artifact_uri(self, project_id: int, run_id: str) -> str:
        return artifact_uri(project_id, run_id)


async def _connection_of(session: AsyncSession) -> Connection:
    """The session's own psycopg connection, within its transaction."""
    raw = await (await session.connection()).get_raw_connection()
    connection = cast(Connection, raw.driver_connection)
    prepare_connection(connection)
    return connection


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _param_text(value: Any) -> str:
    return str(value)


def _cut(text: str, limit: int) -> str:
    return text.replace("\x00", "")[:limit]
