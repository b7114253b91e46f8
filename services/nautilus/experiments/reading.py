"""What an experiment leaves behind, read as the caller: log, metrics, artifacts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import quote

from nautilus.core.identity import Identity
from nautilus.core.states import ExperimentState
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabNotFound
from nautilus.experiments.ports import MetricPoint, Tracking
from nautilus.experiments.schemas import ArtifactView, MetricPointView
from nautilus.experiments.service import ExperimentService
from nautilus.experiments.usage import SYSTEM, TAGS, Usage, usage_of
from nautilus.gitlab.port import TRACE_PART_BYTES, GitLab

METRIC_POINTS_LIMIT = 100_000
_ARTIFACT_ROUTE = "/api/2.0/mlflow-artifacts/artifacts/"
"""Where `mlflow-artifacts:/…` is served. Source: mlflow/server/handlers.py, MlflowArtifactsService."""


@dataclass(frozen=True)
class LogPart:
    """Bytes of the log from `offset`; `size` is its length so far; complete when nothing will be added."""

    offset: int
    data: bytes
    size: int
    is_complete: bool


class ExperimentReader:
    """`base_url` is ours as browsers reach it; GitLab's API is there too."""

    def __init__(
        self,
        service: ExperimentService,
        database: Database,
        gitlab: GitLab,
        tracking: Tracking,
        *,
        base_url: str,
    ) -> None:
        self._service = service
        self._database = database
        self._gitlab = gitlab
        self._tracking = tracking
        self._base_url = base_url

    async def log(
        self, caller: Identity, experiment_id: int, offset: int, *, limit_bytes: int = TRACE_PART_BYTES
    ) -> LogPart:
        """Everything from `offset` on is read over several calls: each gives at most 1 MiB. Raises
        NotFound."""
        experiment = await self._service.visible(caller, experiment_id)
        return await self.log_of(caller, experiment, offset, limit_bytes=limit_bytes)

    async def log_of(
        self, caller: Identity, experiment: Experiment, offset: int, *, limit_bytes: int = TRACE_PART_BYTES
    ) -> LogPart:
        """As `log`, for a row that the caller may see."""
        is_final = ExperimentState(experiment.state).is_final
        if experiment.job_id is None:
            return LogPart(offset, b"", 0, is_final)
        account = self._gitlab.acting(caller.credential)
        try:
            part = await account.job_trace(
                experiment.project_id, experiment.job_id, offset, limit_bytes=limit_bytes
            )
        except GitLabNotFound:
            return LogPart(offset, b"", 0, is_final)
        is_last = offset + len(part.data) >= part.size
        return LogPart(offset, part.data, part.size, is_final and is_last)

    async def metrics(self, caller: Identity, experiment_id: int) -> dict[str, float | None]:
        """The last value of each. Raises NotFound."""
        experiment = await self._service.visible(caller, experiment_id)
        async with self._database.read() as session:
            found = await self._tracking.last_metrics(session, [experiment.mlflow_run_id])
        return dict(found.get(experiment.mlflow_run_id, {}))

    async def metric(self, caller: Identity, experiment_id: int, key: str) -> list[MetricPointView]:
        """A metric's curve, by step; empty where nobody logged it. Raises NotFound."""
        experiment = await self._service.visible(caller, experiment_id)
        async with self._database.read() as session:
            points = await self._tracking.metric_history(
                session, experiment.mlflow_run_id, key, limit=METRIC_POINTS_LIMIT
            )
        return [point_view(point) for point in points]

    async def usage(self, caller: Identity, experiment_id: int) -> Usage:
        """What its job uses, now and at most, and why it ended. Raises NotFound."""
        experiment = await self._service.visible(caller, experiment_id)
        run_id = experiment.mlflow_run_id
        async with self._database.read() as session:
            now = (await self._tracking.last_metrics(session, [run_id])).get(run_id, {})
            peaks = await self._tracking.metric_peaks(session, run_id, SYSTEM)
            tags = await self._tracking.run_tags(session, run_id, TAGS)
        return usage_of(now, peaks, tags)

    async def artifacts(self, caller: Identity, experiment_id: int) -> list[ArtifactView]:
        """What the script logged, and the archive of the job's files where GitLab keeps one. Raises
        NotFound."""
        experiment = await self._service.visible(caller, experiment_id)
        async with self._database.read() as session:
            logged = await self._tracking.artifacts(session, experiment.mlflow_run_id)
        uri = self._tracking.artifact_uri(experiment.project_id, experiment.mlflow_run_id)
        root = self._base_url + _ARTIFACT_ROUTE + uri.removeprefix("mlflow-artifacts:/")
        found = [
            ArtifactView(
                path=a.path, size_bytes=a.size_bytes, source="tracking", url=f"{root}/{quote(a.path)}"
            )
            for a in logged
        ]
        if experiment.job_id is not None and await self._has_archive(caller, experiment):
            route = f"/api/v4/projects/{experiment.project_id}/jobs/{experiment.job_id}/artifacts"
            url = self._base_url + route
            found.append(ArtifactView(path="artifacts.zip", size_bytes=None, source="job", url=url))
        return found

    async def _has_archive(self, caller: Identity, experiment: Experiment) -> bool:
        assert experiment.job_id is not None
        try:
            job = await self._gitlab.acting(caller.credential).job(experiment.project_id, experiment.job_id)
        except GitLabNotFound:
            return False
        return job.has_artifacts


def point_view(point: MetricPoint) -> MetricPointView:
    value = point.value if math.isfinite(point.value) else None
    return MetricPointView(step=point.step, value=value, timestamp=point.timestamp_ms)
