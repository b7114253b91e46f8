"""Submits, lists, shows, cancels and repeats experiments. What happens at GitLab afterwards is the
reconciler's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus.core.ci_file import DEFAULT_CI_PATH, JOB_NAME
from nautilus.core.command import render_command
from nautilus.core.identity import Credential, Identity
from nautilus.core.params import Params, expand_sweep, text_of
from nautilus.core.reasons import CANCEL_REQUESTED, CANCELED, PREEMPTING, WAITS_FOR_LAUNCH
from nautilus.core.states import ExperimentState
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment, Sweep
from nautilus.errors import Conflict, ExternalCiConfig, GitLabNotFound, InvalidRequest, NotFound
from nautilus.events import Events
from nautilus.experiments.lifecycle import move
from nautilus.experiments.ports import NewRun, Tracking
from nautilus.experiments.queries import (
    Filter,
    Order,
    find_experiment,
    id_of_run,
    list_experiments,
    no_such,
)
from nautilus.experiments.schemas import AttemptView, ExperimentView, Submission, Submitted
from nautilus.experiments.usage import SYSTEM
from nautilus.gitlab.port import GitLab, Project
from nautilus.projects.access import ProjectAccess

Notice = Callable[[Sequence[int], Credential], None]
"""Tells the reconciler that these experiments have something to do, and with whose token."""


@dataclass(frozen=True)
class _Pinned:
    """Where a run's code is: the project, its CI file's path, and the commit that the ref named at
    submission."""

    project: Project
    ci_config_path: str
    ref: str
    commit_sha: str


class ExperimentService:
    def __init__(
        self,
        database: Database,
        gitlab: GitLab,
        tracking: Tracking,
        access: ProjectAccess,
        events: Events,
        *,
        base_url: str,
        notice: Notice,
    ) -> None:
        self._database = database
        self._gitlab = gitlab
        self._tracking = tracking
        self._access = access
        self._events = events
        self._base_url = base_url
        self._notice = notice

    async def submit(self, caller: Identity, submission: Submission) -> Submitted:
        """Accepts one experiment, or one per parameter set of the sweep; the commit is pinned now.

        Raises InvalidParameter, InvalidCommand, InvalidRequest, TooLarge, ExternalCiConfig, NotFound,
        Forbidden.
        """
        submission.check_env()
        sets = expand_sweep(submission.params, submission.sweep)
        for params in sets:
            render_command(submission.command, params)
        pinned = await self._pin(caller, submission.project, submission.ref)
        async with self._database.transaction() as session:
            sweep = await self._add_sweep(session, caller, pinned, len(sets)) if submission.sweep else None
            experiments = [_experiment(caller, pinned, submission, params) for params in sets]
            for experiment in experiments:
                experiment.sweep_id = sweep.id if sweep else None
            await self._add(session, experiments, submission.name)
        return self._accepted(caller, experiments)

    async def rerun(self, caller: Identity, experiment_id: int) -> Submitted:
        """The same commit, command, parameters and seed again, as the caller. Raises NotFound, Forbidden."""
        old = await self.writable(caller, experiment_id)
        project = await self._access.writable(caller, old.project_id)
        again = Experiment(
            **{name: getattr(old, name) for name in _REPEATED},
            mlflow_run_id=secrets.token_hex(16),
            project_path=project.path_with_namespace,
            ci_config_path=_inside_ci_path(project),
            user_id=caller.user_id,
            username=caller.username,
            rerun_of=old.id,
            state=str(ExperimentState.QUEUED),
            reason=WAITS_FOR_LAUNCH,
            created_at=datetime.now(UTC),
        )
        async with self._database.transaction() as session:
            await self._add(session, [again], old.name)
        return self._accepted(caller, [again])

    async def cancel(self, caller: Identity, experiment_id: int, *, is_now: bool = False) -> ExperimentView:
        """Ends it, whatever it does now; one that has ended stays as it is. `is_now`: its script gets no time to end,
        nothing is kept. Raises NotFound, Forbidden, GitLabForbidden (`is_now` is for maintainers)."""
        known = await self.writable(caller, experiment_id)
        if known.pipeline_id is not None and known.finished_at is None:
            account = self._gitlab.acting(caller.credential)
            await account.cancel_pipeline(known.project_id, known.pipeline_id)
            if is_now and known.job_id is not None:
                await account.force_cancel_job(known.project_id, known.job_id)
        async with self._database.transaction() as session:
            experiment = await find_experiment(session, experiment_id, for_update=True)
            await self._request_cancel(session, experiment)
        self._notice([experiment_id], caller.credential)
        self._events.publish(experiment.mlflow_run_id)
        return (await self._views([experiment]))[0]

    async def preempt(self, caller: Identity, experiment_id: int) -> ExperimentView:
        """Its job keeps its checkpoint and ends; the next attempt goes on from there, on any machine.

        Raises NotFound, Forbidden, Conflict where it does not run.
        """
        known = await self.writable(caller, experiment_id)
        async with self._database.transaction() as session:
            experiment = await find_experiment(session, experiment_id, for_update=True)
            state = ExperimentState(experiment.state)
            if state is not ExperimentState.RUNNING or experiment.pipeline_id is None:
                raise Conflict(f"it is {state}: only an experiment that runs can be preempted")
            experiment.preempt_requested_at = experiment.preempt_requested_at or datetime.now(UTC)
            experiment.reason = PREEMPTING
        assert experiment.pipeline_id is not None
        account = self._gitlab.acting(caller.credential)
        await account.cancel_pipeline(known.project_id, experiment.pipeline_id)
        self._notice([experiment_id], caller.credential)
        self._events.publish(experiment.mlflow_run_id)
        return (await self._views([experiment]))[0]

    async def attempts(self, caller: Identity, experiment_id: int) -> list[AttemptView]:
        """Its jobs, first to last. Raises NotFound."""
        known = await self.visible(caller, experiment_id)
        if known.pipeline_id is None:
            return []
        account = self._gitlab.acting(caller.credential)
        try:
            jobs = await account.pipeline_jobs(known.project_id, known.pipeline_id, with_retried=True)
        except GitLabNotFound:
            return []
        mine = sorted((job for job in jobs if job.name == JOB_NAME), key=lambda job: job.id)
        return [AttemptView.of(number, job) for number, job in enumerate(mine, 1)]

    async def get(self, caller: Identity, experiment_id: int) -> ExperimentView:
        """Raises NotFound."""
        return (await self._views([await self.visible(caller, experiment_id)]))[0]

    async def page(
        self, caller: Identity, chosen: Filter, order: Order, *, limit: int, offset: int
    ) -> tuple[list[ExperimentView], int]:
        """A page of those that the caller may see, and how many there are. Raises InvalidRequest,
        NotFound."""
        if chosen.project_ids is None:
            chosen = Filter(await self._access.visible_ids(caller), chosen.states, chosen.sweep_id)
        else:
            for project_id in chosen.project_ids:
                await self._access.readable(caller, project_id)
        async with self._database.read() as session:
            found, total = await list_experiments(
                session, self._tracking, chosen, order, limit=limit, offset=offset
            )
        return await self._views(found), total

    async def project_id(self, caller: Identity, project: int | str) -> int:
        """The id of a project that the caller may see. Raises NotFound."""
        return (await self._access.readable(caller, project)).id

    async def of_run(self, caller: Identity, mlflow_run_id: str) -> ExperimentView:
        """The experiment that is this MLflow run. Raises NotFound."""
        async with self._database.read() as session:
            experiment_id = await id_of_run(session, mlflow_run_id)
        if experiment_id is None:
            raise NotFound(f"there is no run {mlflow_run_id[:40]}, or you may not see it")
        return await self.get(caller, experiment_id)

    async def visible(self, caller: Identity, experiment_id: int) -> Experiment:
        """The row, where the caller may see its project. Raises NotFound."""
        async with self._database.read() as session:
            experiment = await find_experiment(session, experiment_id)
        try:
            await self._access.readable(caller, experiment.project_id)
        except NotFound:
            raise no_such(experiment_id) from None
        return experiment

    async def writable(self, caller: Identity, experiment_id: int) -> Experiment:
        """The row, where the caller may change it. Raises NotFound, Forbidden."""
        experiment = await self.visible(caller, experiment_id)
        await self._access.writable(caller, experiment.project_id)
        return experiment

    async def _pin(self, caller: Identity, project: int | str, ref: str | None) -> _Pinned:
        if isinstance(project, str) and project.isdecimal():
            project = int(project)
        found = await self._access.writable(caller, project, is_fresh=True)
        path = _inside_ci_path(found)
        name = ref or found.default_branch
        account = self._gitlab.acting(caller.credential)
        if name is None or found.is_empty:
            raise InvalidRequest(f"{found.path_with_namespace} has no commit yet: push one first")
        try:
            commit = await account.resolve_commit(found.id, name)
        except GitLabNotFound:
            raise NotFound(f"{found.path_with_namespace} has no branch, tag or commit {name!r}") from None
        return _Pinned(found, path, name, commit.sha)

    async def _add_sweep(self, session: AsyncSession, caller: Identity, pinned: _Pinned, size: int) -> Sweep:
        sweep = Sweep(project_id=pinned.project.id, user_id=caller.user_id, size=size)
        session.add(sweep)
        await session.flush()
        return sweep

    async def _add(self, session: AsyncSession, experiments: list[Experiment], name: str | None) -> None:
        session.add_all(experiments)
        await session.flush()
        for index, experiment in enumerate(experiments, 1):
            experiment.name = _name(name, index, len(experiments)) or f"run-{experiment.id}"
            await self._tracking.create_run(session, _run_of(experiment))

    def _accepted(self, caller: Identity, experiments: list[Experiment]) -> Submitted:
        self._notice([experiment.id for experiment in experiments], caller.credential)
        return Submitted(
            sweep_id=experiments[0].sweep_id, experiments=[self._view(one, {}) for one in experiments]
        )

    async def _request_cancel(self, session: AsyncSession, experiment: Experiment) -> None:
        state = ExperimentState(experiment.state)
        if state.is_final:
            return
        experiment.cancel_requested_at = experiment.cancel_requested_at or datetime.now(UTC)
        is_nowhere = experiment.launch_started_at is None
        after = ExperimentState.CANCELED if is_nowhere else ExperimentState.CANCELING
        reason = CANCELED if is_nowhere else CANCEL_REQUESTED
        await move(session, self._tracking, experiment, after, reason, started_at=experiment.started_at)
        if is_nowhere:
            experiment.closed_at = datetime.now(UTC)

    async def _views(self, experiments: Sequence[Experiment]) -> list[ExperimentView]:
        async with self._database.read() as session:
            metrics = await self._tracking.last_metrics(session, [e.mlflow_run_id for e in experiments])
        return [self._view(one, _own_metrics(metrics.get(one.mlflow_run_id, {}))) for one in experiments]

    def _view(self, experiment: Experiment, metrics: dict[str, float]) -> ExperimentView:
        uri = self._tracking.artifact_uri(experiment.project_id, experiment.mlflow_run_id)
        return ExperimentView.of(experiment, dict(metrics), artifact_uri=uri, base_url=self._base_url)


_REPEATED = (
    "project_id", "ref", "commit_sha", "command", "params", "env", "image", "resources", "retry", "seed", "tags",
    "artifact_paths", "name",
)  # fmt: skip


def _experiment(caller: Identity, pinned: _Pinned, submission: Submission, params: Params) -> Experiment:
    return Experiment(
        mlflow_run_id=secrets.token_hex(16),
        project_id=pinned.project.id,
        project_path=pinned.project.path_with_namespace,
        name="",
        user_id=caller.user_id,
        username=caller.username,
        ref=pinned.ref,
        commit_sha=pinned.commit_sha,
        ci_config_path=pinned.ci_config_path,
        command=submission.command,
        params=params,
        env=dict(submission.env),
        image=submission.image,
        resources=submission.resources.model_dump(exclude_defaults=True),
        retry=submission.retry.model_dump(mode="json"),
        seed=submission.seed,
        tags=list(submission.tags),
        artifact_paths=list(submission.artifacts),
        state=str(ExperimentState.QUEUED),
        reason=WAITS_FOR_LAUNCH,
        created_at=datetime.now(UTC),
    )


def _own_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Without what the runner logs of the job's use of its machine: that is `usage`."""
    return {key: value for key, value in metrics.items() if not key.startswith(SYSTEM)}


def _name(name: str | None, index: int, count: int) -> str | None:
    return f"{name}-{index}" if name and count > 1 else name


def _run_of(experiment: Experiment) -> NewRun:
    tags = {
        "nautilus.experiment_id": str(experiment.id),
        "mlflow.source.git.commit": experiment.commit_sha,
        "mlflow.source.name": experiment.command[:500],
        "mlflow.source.type": "PROJECT",
        **{f"nautilus.tag.{tag}": "" for tag in experiment.tags},
    }
    if experiment.seed is not None:
        tags["nautilus.seed"] = text_of(experiment.seed)
    return NewRun(
        run_id=experiment.mlflow_run_id,
        name=experiment.name,
        project_id=experiment.project_id,
        project_path=experiment.project_path,
        username=experiment.username,
        params=experiment.params,
        tags=tags,
        created_at=experiment.created_at,
    )


def _inside_ci_path(project: Project) -> str:
    """Where the project's CI file is in its repository. Raises ExternalCiConfig where it is elsewhere."""
    path = project.ci_config_path or DEFAULT_CI_PATH
    if "@" in path or "://" in path:
        raise ExternalCiConfig(
            f"the CI file of {project.path_with_namespace} lies outside of its repository ({path}), so a run cannot "
            "replace it: set the project's CI/CD configuration file to a path inside"
        )
    return path.removeprefix("/")
