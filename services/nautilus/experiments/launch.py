"""Makes an experiment real at GitLab: one generated commit on a branch of its own, made by its user.

It may be interrupted anywhere and repeated: before the branch is asked for, the row says so; a branch that
is there already is ours when its tip names our run, and is then taken as it is. So nothing is ever made
twice.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nautilus.core.ci_file import WISH_VARIABLES, RunSpec, ci_file, commit_message, run_trailer
from nautilus.core.identity import Credential
from nautilus.core.reasons import CANCELED, WAITS_FOR_PIPELINE
from nautilus.core.retrying import RetryPolicy
from nautilus.core.states import ExperimentState
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment
from nautilus.errors import (
    GitLabConflict,
    GitLabError,
    GitLabNotFound,
    GitLabUnauthenticated,
    NautilusError,
    Unavailable,
)
from nautilus.experiments.lifecycle import fail, move
from nautilus.experiments.ports import Tracking
from nautilus.experiments.queries import find_experiment
from nautilus.gitlab.port import Commit, FileChange, GitLab, GitLabAccount

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claim:
    """`is_second_try`: an earlier try may have made the branch. `is_canceled`: only to be found, not to be
    made."""

    experiment: Experiment
    is_second_try: bool
    is_canceled: bool


class Launcher:
    """`job_url` is management as jobs reach it."""

    def __init__(self, database: Database, gitlab: GitLab, tracking: Tracking, *, job_url: str) -> None:
        self._database = database
        self._gitlab = gitlab
        self._tracking = tracking
        self._job_url = job_url

    async def launch(self, experiment_id: int, users: Credential | None, sudo: Credential) -> bool:
        """True when its branch is there. `users` is the submitter's own token, `sudo` the service's in
        their name.

        A refusal of GitLab's fails the experiment. Raises Unavailable where it should be tried again later.
        """
        claim = await self._claim(experiment_id)
        if claim is None:
            return False
        try:
            commit = await self._commit(claim, users or sudo, sudo)
        except Unavailable:
            raise
        except NautilusError as error:
            logger.info("experiment %s could not be launched: %s", experiment_id, error)
            await self._refused(experiment_id, f"it could not be launched. {error.message}")
            return False
        if commit is None:
            await self._refused(experiment_id, CANCELED)
            return False
        await self._launched(experiment_id, commit)
        return True

    async def _claim(self, experiment_id: int) -> _Claim | None:
        """Notes that the branch may exist from now on; None where the experiment has ended meanwhile."""
        async with self._database.transaction() as session:
            experiment = await find_experiment(session, experiment_id, for_update=True)
            state = ExperimentState(experiment.state)
            if state.is_final:
                return None
            is_second_try = experiment.launch_started_at is not None
            experiment.launch_started_at = experiment.launch_started_at or datetime.now(UTC)
            return _Claim(experiment, is_second_try, state is ExperimentState.CANCELING)

    async def _commit(self, claim: _Claim, credential: Credential, sudo: Credential) -> Commit | None:
        """The generated commit, found or made; None where there is none and it is not wanted any more."""
        account, experiment = self._gitlab.acting(credential), claim.experiment
        try:
            if claim.is_second_try and (found := await self._half_made(account, experiment)) is not None:
                return found
            return None if claim.is_canceled else await self._make(account, experiment)
        except GitLabUnauthenticated:
            if credential == sudo:
                raise
            return await self._commit(claim, sudo, sudo)

    async def _make(self, account: GitLabAccount, experiment: Experiment) -> Commit:
        spec = run_spec(experiment, self._job_url)
        path = experiment.ci_config_path
        replaces = await account.has_file(experiment.project_id, path, experiment.commit_sha)
        change = FileChange(path, ci_file(spec), replaces=replaces)
        try:
            return await account.commit_files(
                experiment.project_id,
                experiment.branch,
                commit_message(spec),
                [change],
                start_sha=experiment.commit_sha,
            )
        except GitLabConflict:
            found = await self._half_made(account, experiment)
            if found is None:
                raise
            return found

    async def _half_made(self, account: GitLabAccount, experiment: Experiment) -> Commit | None:
        """The tip of our branch from an earlier try. Raises GitLabError where the branch is somebody
        else's."""
        try:
            commit = await account.branch_head(experiment.project_id, experiment.branch)
        except GitLabNotFound:
            return None
        if run_trailer(experiment.mlflow_run_id) not in commit.message:
            raise GitLabError(f"a branch {experiment.branch} is there already and is not this run's")
        return commit

    async def _launched(self, experiment_id: int, commit: Commit) -> None:
        async with self._database.transaction() as session:
            experiment = await find_experiment(session, experiment_id, for_update=True)
            experiment.run_sha = commit.sha
            experiment.launched_at = datetime.now(UTC)
            if experiment.state == ExperimentState.QUEUED:
                await move(session, self._tracking, experiment, ExperimentState.QUEUED, WAITS_FOR_PIPELINE)

    async def _refused(self, experiment_id: int, reason: str) -> None:
        async with self._database.transaction() as session:
            experiment = await find_experiment(session, experiment_id, for_update=True)
            await fail(session, self._tracking, experiment, reason)


def run_spec(experiment: Experiment, job_url: str) -> RunSpec:
    resources: dict[str, Any] = experiment.resources
    return RunSpec(
        experiment_id=experiment.id,
        run_id=experiment.mlflow_run_id,
        project_id=experiment.project_id,
        commit_sha=experiment.commit_sha,
        url=job_url,
        command=experiment.command,
        params=experiment.params,
        env=experiment.env,
        image=experiment.image,
        seed=experiment.seed,
        time_limit_s=resources.get("time_s"),
        runner_tags=resources.get("runner_tags", ()),
        wishes={name: resources[name] for name in WISH_VARIABLES if resources.get(name) is not None},
        artifact_paths=experiment.artifact_paths,
        retry=RetryPolicy.of(experiment.retry),
    )
