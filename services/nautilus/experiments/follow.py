"""Brings one experiment forward to what GitLab says of it: pipeline, job, state, end, clean-up.

Each step reads GitLab first and then writes one short transaction, so that it may be interrupted anywhere.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus.core.ci_file import JOB_NAME, METRICS_FILE, run_trailer
from nautilus.core.reasons import (
    CANCEL_REQUESTED,
    CANCELED,
    STARTS,
    WAITS_FOR_PIPELINE,
    exit_code_in,
    failure_sentence,
    runner_words,
)
from nautilus.core.states import ExperimentState, JobState, state_of_job
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabError, GitLabNotFound, NautilusError, TooLarge
from nautilus.events import Events
from nautilus.experiments.lifecycle import fail, move
from nautilus.experiments.metrics_file import FILE_LIMIT_BYTES, read_metrics
from nautilus.experiments.ports import MetricPoint, Tracking
from nautilus.experiments.queries import find_experiment
from nautilus.experiments.usage import CAUSE, REASON, TAGS
from nautilus.gitlab.port import GitLabAccount, Job, Pipeline

logger = logging.getLogger(__name__)

PIPELINE_PATIENCE = timedelta(seconds=60)
"""How long GitLab may take to make the pipeline of a push."""
_TRACE_TAIL_BYTES = 4096
_METRICS_PATHS = (METRICS_FILE, f"outputs/{METRICS_FILE}")


class Follower:
    def __init__(self, database: Database, tracking: Tracking, events: Events) -> None:
        self._database = database
        self._tracking = tracking
        self._events = events

    async def find_pipeline(self, account: GitLabAccount, experiment: Experiment) -> bool:
        """Finds the pipeline and the job of a launched experiment; True when both are known.

        An experiment whose pipeline does not come, or that GitLab finds fault with, fails.
        """
        found = await account.pipelines(experiment.project_id, ref=experiment.branch)
        pipeline = next((p for p in found if p.sha == experiment.run_sha), None)
        if pipeline is None:
            await self._waits_for_pipeline(experiment)
            return False
        jobs = await account.pipeline_jobs(experiment.project_id, pipeline.id)
        job = max((j for j in jobs if j.name == JOB_NAME), key=lambda j: j.id, default=None)
        if job is None:
            await self._without_job(account, experiment, pipeline)
            return False
        async with self._database.transaction() as session:
            row = await find_experiment(session, experiment.id, for_update=True)
            row.pipeline_id, row.job_id, row.job_url = pipeline.id, job.id, job.web_url
        experiment.pipeline_id, experiment.job_id = pipeline.id, job.id
        return True

    async def newest_attempt(self, account: GitLabAccount, experiment: Experiment, job: Job) -> Job:
        """The attempt that has replaced `job` at GitLab, taken over as the experiment's; else `job` itself."""
        assert experiment.pipeline_id is not None
        jobs = await account.pipeline_jobs(experiment.project_id, experiment.pipeline_id)
        newest = max((j for j in jobs if j.name == JOB_NAME), key=lambda j: j.id, default=job)
        if newest.id > job.id:
            await self.take_over(experiment, newest)
        return newest if newest.id > job.id else job

    async def take_over(self, experiment: Experiment, attempt: Job) -> None:
        """The experiment goes on as this job."""
        async with self._database.transaction() as session:
            row = await find_experiment(session, experiment.id, for_update=True)
            row.job_id, row.job_url, row.preempt_requested_at = attempt.id, attempt.web_url, None
        experiment.job_id, experiment.job_url = attempt.id, attempt.web_url
        experiment.preempt_requested_at = None
        self._events.publish(experiment.mlflow_run_id)

    async def follow_job(
        self, account: GitLabAccount, experiment: Experiment, job: Job, waiting_reason: str
    ) -> bool:
        """Takes over the job's state; True when the experiment has ended.

        `waiting_reason` is said while no runner has the job. At the end the metrics file is read, and it
        and the final state are written together.
        """
        before = ExperimentState(experiment.state)
        state = state_of_job(before, job.state, has_runner=job.runner_id is not None)
        reason = await self._reason(account, experiment, job, state, waiting_reason)
        points = await self._metrics_file(account, job) if state.is_final and not before.is_final else []
        async with self._database.transaction() as session:
            row = await find_experiment(session, experiment.id, for_update=True)
            if ExperimentState(row.state).is_final:
                return True
            state = state_of_job(ExperimentState(row.state), job.state, has_runner=job.runner_id is not None)
            if state is ExperimentState.FAILED:
                tags = await self._tracking.run_tags(session, row.mlflow_run_id, TAGS)
                reason = runner_words(job.failure_reason, tags.get(CAUSE), tags.get(REASON)) or reason
            if points and state.is_final:
                await self._log_metrics(session, row, points)
            changed = await move(
                session,
                self._tracking,
                row,
                state,
                reason,
                started_at=job.started_at,
                finished_at=job.finished_at,
            )
        if changed:
            self._events.publish(experiment.mlflow_run_id)
        return state.is_final

    async def end(self, experiment: Experiment, reason: str) -> None:
        """Ends it for a reason of ours, such as a job that GitLab has no more."""
        async with self._database.transaction() as session:
            row = await find_experiment(session, experiment.id, for_update=True)
            await fail(session, self._tracking, row, reason)
        self._events.publish(experiment.mlflow_run_id)

    async def close(self, account: GitLabAccount, experiment_id: int) -> None:
        """Removes the branch of an experiment that has ended; then nothing is left to do."""
        async with self._database.read() as session:
            experiment = await find_experiment(session, experiment_id)
        if experiment.launch_started_at is not None:
            try:
                if experiment.run_sha is not None or await self._is_ours(account, experiment):
                    await account.delete_branch(experiment.project_id, experiment.branch)
            except GitLabError as error:
                logger.warning("branch %s stays: %s", experiment.branch, error)
        async with self._database.transaction() as session:
            row = await find_experiment(session, experiment_id, for_update=True)
            row.closed_at = row.closed_at or datetime.now(UTC)

    async def _is_ours(self, account: GitLabAccount, experiment: Experiment) -> bool:
        """Whether a branch of this name names our run: one that failed to launch may have found another's
        there."""
        try:
            tip = await account.branch_head(experiment.project_id, experiment.branch)
        except GitLabNotFound:
            return False
        return run_trailer(experiment.mlflow_run_id) in tip.message

    async def _reason(
        self, account: GitLabAccount, experiment: Experiment, job: Job, state: ExperimentState, waiting: str
    ) -> str | None:
        match state:
            case ExperimentState.QUEUED:
                return waiting
            case ExperimentState.STARTING:
                return STARTS
            case ExperimentState.CANCELING:
                return CANCEL_REQUESTED
            case ExperimentState.CANCELED:
                return CANCELED
            case ExperimentState.FAILED:
                return await self._why_failed(account, experiment, job)
            case _:
                return None

    async def _why_failed(self, account: GitLabAccount, experiment: Experiment, job: Job) -> str:
        if job.state is JobState.SKIPPED:
            return "GitLab skipped its job"
        exit_code = job.exit_code
        if exit_code is None and job.failure_reason in ("script_failure", "unknown_failure", None):
            exit_code = exit_code_in(await self._trace_tail(account, experiment.project_id, job.id))
        return failure_sentence(job.failure_reason, exit_code)

    async def _trace_tail(self, account: GitLabAccount, project: int, job_id: int) -> bytes:
        """The log's last bytes; GitLab has no route for them, so the size is asked for first."""
        try:
            size = (await account.job_trace(project, job_id, 0, limit_bytes=1)).size
            tail = await account.job_trace(project, job_id, max(0, size - _TRACE_TAIL_BYTES))
        except GitLabError:
            return b""
        return tail.data[-_TRACE_TAIL_BYTES:]

    async def _metrics_file(self, account: GitLabAccount, job: Job) -> list[MetricPoint]:
        if not job.has_artifacts:
            return []
        for path in _METRICS_PATHS:
            try:
                content = await account.job_artifact_file(job.project_id, job.id, path, FILE_LIMIT_BYTES)
            except GitLabNotFound:
                continue
            except (GitLabError, TooLarge) as error:
                logger.warning("%s of job %s is not read: %s", path, job.id, error)
                continue
            return read_metrics(content, job.finished_at or datetime.now(UTC))
        return []

    async def _log_metrics(
        self, session: AsyncSession, experiment: Experiment, points: list[MetricPoint]
    ) -> None:
        """What tracking refuses (a deleted run, a name that it does not take) does not keep the run from
        its end."""
        try:
            async with session.begin_nested():
                await self._tracking.log_metrics(session, experiment.mlflow_run_id, points)
        except NautilusError as error:
            logger.warning("the metrics file of experiment %s is not taken: %s", experiment.id, error)

    async def _waits_for_pipeline(self, experiment: Experiment) -> None:
        launched_at = experiment.launched_at or datetime.now(UTC)
        if datetime.now(UTC) - launched_at > PIPELINE_PATIENCE:
            await self.end(
                experiment,
                f"GitLab made no pipeline within {PIPELINE_PATIENCE.seconds} s: is CI/CD on in this project?",
            )
        elif experiment.state == ExperimentState.QUEUED and experiment.reason != WAITS_FOR_PIPELINE:
            async with self._database.transaction() as session:
                row = await find_experiment(session, experiment.id, for_update=True)
                if row.state == ExperimentState.QUEUED:
                    row.reason = WAITS_FOR_PIPELINE

    async def _without_job(self, account: GitLabAccount, experiment: Experiment, found: Pipeline) -> None:
        pipeline = await account.pipeline(experiment.project_id, found.id)
        if pipeline.yaml_errors:
            await self.end(experiment, f"GitLab refuses the run's CI file: {pipeline.yaml_errors}")
        elif pipeline.status in ("failed", "skipped", "canceled", "success"):
            await self.end(experiment, f"GitLab made a pipeline without our job (it is {pipeline.status})")
        else:
            await self._waits_for_pipeline(experiment)
