"""Jobs, pipelines and deployments.

Source: gitlabhq lib/gitlab/data_builder/{build,pipeline,deployment}.rb.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import (
    Deployment,
    Environment,
    Job,
    JobArtifact,
    Pipeline,
    PipelineVariable,
    Project,
    Runner,
    User,
)
from nautilus_forge.forge import Forge
from nautilus_forge.git.commits import Commit
from nautilus_forge.repository.entities import project_url
from nautilus_forge.responses import timestamp
from nautilus_forge.webhooks.payloads import merge_requests, parts

_OVER = ("success", "failed", "canceled", "skipped")
_UNSTARTED = ("created", "waiting_for_resource", "preparing", "pending", "manual", "scheduled")
_LABELS = {
    "success": "passed",
    "manual": "waiting for manual action",
    "scheduled": "waiting for delayed job",
    "waiting_for_resource": "waiting for resource",
}
"""Source: gitlabhq lib/gitlab/ci/status/*.rb (`label`)."""


@dataclass(frozen=True)
class _Times:
    """As they were while the thing had `status`: a later change does not show."""

    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, status: str, started_at: datetime | None, finished_at: datetime | None) -> _Times:
        return cls(
            None if status in _UNSTARTED else started_at,
            finished_at if status in _OVER else None,
        )


@dataclass
class _Around:
    """What jobs refer to, by id."""

    users: dict[int, User] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    archives: dict[int, JobArtifact] = field(default_factory=dict)
    tiers: dict[str, str] = field(default_factory=dict)


async def build_job(
    db: AsyncSession, forge: Forge, project: Project, job: Job, status: str
) -> dict[str, Any] | None:
    """`status`: the one that it is about. None where its user is blocked, as in GitLab."""
    pipeline = await db.get(Pipeline, job.pipeline_id)
    around = await _around(db, [job])
    user = around.users.get(job.user_id or 0)
    if pipeline is None or (user is not None and user.state == "blocked"):
        return None
    times = _Times.of(status, job.started_at, job.finished_at)
    return {
        "object_kind": "build",
        "ref": pipeline.ref,
        "tag": pipeline.is_tag,
        "before_sha": pipeline.before_sha,
        "sha": pipeline.sha,
        "retries_count": await _retries(db, job),
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": job.stage,
        "build_status": status,
        "build_created_at": parts.moment(job.created_at),
        "build_created_at_iso": parts.xml_moment(job.created_at),
        "build_started_at": parts.moment(times.started_at),
        "build_started_at_iso": parts.xml_moment(times.started_at),
        "build_finished_at": parts.moment(times.finished_at),
        "build_finished_at_iso": parts.xml_moment(times.finished_at),
        "build_duration": parts.seconds(times.started_at, times.finished_at),
        "build_queued_duration": parts.seconds(job.queued_at, times.started_at),
        "build_allow_failure": job.allow_failure,
        "build_failure_reason": job.failure_reason or "unknown_failure",
        "pipeline_id": pipeline.id,
        "runner": parts.runner(around.runners.get(job.runner_id or 0)),
        "project_id": project.id,
        "project_name": project.name_with_namespace,
        "user": parts.user(user),
        "commit": await _commit_of(forge, project, pipeline),
        "repository": parts.repository(forge.settings, project, of_push=True),
        "project": parts.project(forge.settings, project, backward=False),
        "environment": _environment(job),
    }


async def _commit_of(forge: Forge, project: Project, pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline, under the name of its commit: the `id` is the pipeline's."""
    commit = await _known_commit(forge, project, pipeline.sha)
    return {
        "id": pipeline.id,
        "name": pipeline.name,
        "sha": pipeline.sha,
        "message": commit.message if commit else None,
        "author_name": commit.author_name if commit else None,
        "author_email": commit.author_email if commit else None,
        "author_url": f"mailto:{commit.author_email}" if commit else None,
        "status": pipeline.status,
        "duration": _whole(parts.seconds(pipeline.started_at, pipeline.finished_at)),
        "started_at": parts.moment(pipeline.started_at),
        "started_at_iso": parts.xml_moment(pipeline.started_at),
        "finished_at": parts.moment(pipeline.finished_at),
        "finished_at_iso": parts.xml_moment(pipeline.finished_at),
    }


async def _known_commit(forge: Forge, project: Project, sha: str) -> Commit | None:
    """Many jobs are of few commits."""
    return (await forge.ci.commits.of(forge.repositories.git(project.id), project.id, {sha})).get(sha)


async def _retries(db: AsyncSession, job: Job) -> int:
    statement = select(func.count()).where(
        Job.pipeline_id == job.pipeline_id, Job.name == job.name, Job.is_retried, Job.id < job.id
    )
    return await db.scalar(statement) or 0


async def build_pipeline(
    db: AsyncSession, forge: Forge, project: Project, pipeline: Pipeline, status: str
) -> dict[str, Any] | None:
    """`status`: the one that it is about. None where its user is blocked, as in GitLab."""
    user = await db.get(User, pipeline.user_id or 0)
    if user is not None and user.state == "blocked":
        return None
    statement = select(Job).where(Job.pipeline_id == pipeline.id, ~Job.is_retried, ~Job.is_external)
    jobs = (await db.scalars(statement.order_by(Job.stage_idx.desc(), Job.id.desc()))).all()
    around = await _around(db, jobs)
    commit = await _known_commit(forge, project, pipeline.sha)
    return {
        "object_kind": "pipeline",
        "object_attributes": await _pipeline(db, forge, project, pipeline, status),
        "merge_request": await merge_requests.of_pipeline(db, forge, pipeline),
        "user": parts.user(user),
        "project": parts.project(forge.settings, project, backward=False),
        "commit": parts.commit(forge.settings, project, commit) if commit is not None else None,
        "builds": [_job(job, around) for job in jobs],
    }


async def _pipeline(
    db: AsyncSession, forge: Forge, project: Project, pipeline: Pipeline, status: str
) -> dict[str, Any]:
    statement = select(PipelineVariable).where(PipelineVariable.pipeline_id == pipeline.id)
    variables = (await db.scalars(statement.order_by(PipelineVariable.id))).all()
    times = _Times.of(status, pipeline.started_at, pipeline.finished_at)
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "name": pipeline.name,
        "ref": pipeline.ref,
        "tag": pipeline.is_tag,
        "sha": pipeline.sha,
        "before_sha": pipeline.before_sha,
        "source": pipeline.source,
        "status": status,
        "detailed_status": _LABELS.get(status, status),
        "stages": list(pipeline.stages),
        "created_at": parts.moment(pipeline.created_at),
        "finished_at": parts.moment(times.finished_at),
        "duration": _whole(parts.seconds(times.started_at, times.finished_at)),
        "queued_duration": _whole(parts.seconds(pipeline.created_at, times.started_at)),
        "protected_ref": pipeline.is_protected,
        "variables": [{"key": one.key, "value": forge.ci.cipher.decrypt(one.value)} for one in variables],
        "url": f"{project_url(forge.settings, project)}/-/pipelines/{pipeline.id}",
    }


def _job(job: Job, around: _Around) -> dict[str, Any]:
    archive = around.archives.get(job.id)
    environment = _environment(job)
    if environment is not None:
        environment["deployment_tier"] = around.tiers.get(str(environment["name"]))
    return {
        "id": job.id,
        "stage": job.stage,
        "name": job.name,
        "status": job.status,
        "created_at": parts.moment(job.created_at),
        "started_at": parts.moment(job.started_at),
        "finished_at": parts.moment(job.finished_at),
        "duration": parts.seconds(job.started_at, job.finished_at),
        "queued_duration": parts.seconds(job.queued_at, job.started_at),
        "failure_reason": job.failure_reason if job.status == "failed" else None,
        "when": job.when,
        "manual": job.when == "manual",
        "allow_failure": job.allow_failure,
        "user": parts.user(around.users.get(job.user_id or 0)),
        "runner": parts.runner(around.runners.get(job.runner_id or 0)),
        "artifacts_file": {
            "filename": archive.filename if archive is not None else None,
            "size": archive.size if archive is not None else None,
        },
        "environment": environment,
    }


def _environment(job: Job) -> dict[str, Any] | None:
    wanted = job.definition.get("environment")
    if not isinstance(wanted, dict):
        return None
    return {"name": wanted.get("name"), "action": wanted.get("action") or "start"}


async def _around(db: AsyncSession, jobs: Sequence[Job]) -> _Around:
    around = _Around()
    if not jobs:
        return around
    users = _ids(job.user_id for job in jobs)
    runners = _ids(job.runner_id for job in jobs)
    for user in await db.scalars(select(User).where(User.id.in_(users))):
        around.users[user.id] = user
    for runner in await db.scalars(select(Runner).where(Runner.id.in_(runners))):
        around.runners[runner.id] = runner
    archives = select(JobArtifact).where(
        JobArtifact.job_id.in_([job.id for job in jobs]), JobArtifact.file_type == "archive"
    )
    for archive in await db.scalars(archives):
        around.archives[archive.job_id] = archive
    named = [wanted["name"] for job in jobs if (wanted := _environment(job)) is not None]
    tiers = select(Environment.name, Environment.tier).where(
        Environment.project_id == jobs[0].project_id, Environment.name.in_(named)
    )
    around.tiers = {row.name: row.tier for row in await db.execute(tiers)} if named else {}
    return around


def _ids(ids: Iterable[int | None]) -> set[int]:
    return {one for one in ids if one is not None}


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


async def build_deployment(
    db: AsyncSession, forge: Forge, project: Project, deployment: Deployment, status: str, at: str | None
) -> dict[str, Any] | None:
    """`at`: when it became so."""
    environment = await db.get(Environment, deployment.environment_id)
    if environment is None:
        return None
    user = await db.get(User, deployment.user_id or 0)
    commit = await _known_commit(forge, project, deployment.sha)
    web_url = project_url(forge.settings, project)
    changed_at = datetime.fromisoformat(at) if at is not None else deployment.updated_at
    return {
        "object_kind": "deployment",
        "status": status,
        "status_changed_at": timestamp(changed_at),
        "deployment_id": deployment.id,
        "deployable_id": deployment.job_id,
        "deployable_url": f"{web_url}/-/jobs/{deployment.job_id}" if deployment.job_id is not None else None,
        "environment": environment.name,
        "environment_tier": environment.tier,
        "environment_slug": environment.slug,
        "environment_external_url": environment.external_url,
        "project": parts.project(forge.settings, project),
        "short_sha": deployment.sha[:8],
        "user": parts.user(user),
        "user_url": f"{forge.settings.external_url}/{user.username}" if user is not None else None,
        "commit_url": parts.commit_url(forge.settings, project, deployment.sha),
        "commit_title": commit.title if commit is not None else None,
        "ref": deployment.ref,
    }
