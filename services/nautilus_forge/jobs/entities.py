"""Jobs as GitLab shows them, with all that belongs to them read in a handful of queries.

Source: GitLab lib/api/entities/ci/{job_basic,job,job_basic_with_project,job_artifact_file,job_artifact}.rb.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.artifacts.types import ARCHIVE
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Job, JobArtifact, Pipeline, Project, Runner, RunnerManager, User
from nautilus_forge.git.commits import Commit
from nautilus_forge.pipelines.entities import pipeline_basic
from nautilus_forge.projects.entities import identity
from nautilus_forge.repository import entities as repository
from nautilus_forge.responses import timestamp
from nautilus_forge.runners.entities import manager_shown, runner_basic
from nautilus_forge.users.entities import user_shown

T = TypeVar("T", Pipeline, User, Runner, RunnerManager, Project)


@dataclass(frozen=True)
class Belongings:
    """What jobs refer to, by id."""

    projects: Mapping[int, Project]
    pipelines: Mapping[int, Pipeline]
    users: Mapping[int, User]
    runners: Mapping[int, Runner]
    managers: Mapping[int, RunnerManager]
    artifacts: Mapping[int, Sequence[JobArtifact]]
    commits: Mapping[str, Commit]


async def show_jobs(ci: CiHalf, db: AsyncSession, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Each job in full. All may be of different projects."""
    belongings = await _read(ci, db, jobs)
    return [_job(ci, job, belongings) for job in jobs]


async def show_job(ci: CiHalf, db: AsyncSession, job: Job) -> dict[str, Any]:
    return (await show_jobs(ci, db, [job]))[0]


async def show_jobs_with_projects(ci: CiHalf, db: AsyncSession, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs of a runner: without artifacts and runner, with the project."""
    belongings = await _read(ci, db, jobs)
    return [
        _basic(ci, job, belongings) | {"project": identity(belongings.projects[job.project_id])}
        for job in jobs
    ]


def job_web_url(ci: CiHalf, project: Project, job_id: int) -> str:
    return f"{repository.project_url(ci.forge.settings, project)}/-/jobs/{job_id}"


async def _read(ci: CiHalf, db: AsyncSession, jobs: Sequence[Job]) -> Belongings:
    projects = await _by_id(db, Project, {job.project_id for job in jobs})
    pipelines = await _by_id(db, Pipeline, {job.pipeline_id for job in jobs})
    artifacts: dict[int, list[JobArtifact]] = {}
    if jobs:
        chosen = JobArtifact.job_id.in_([job.id for job in jobs])
        for artifact in await db.scalars(select(JobArtifact).where(chosen).order_by(JobArtifact.id)):
            artifacts.setdefault(artifact.job_id, []).append(artifact)
    commits: dict[str, Commit] = {}
    for project_id in projects:
        shas = {p.sha for p in pipelines.values() if p.project_id == project_id}
        commits |= await ci.commits.of(ci.forge.repositories.git(project_id), project_id, shas)
    return Belongings(
        projects=projects,
        pipelines=pipelines,
        users=await _by_id(db, User, {job.user_id for job in jobs}),
        runners=await _by_id(db, Runner, {job.runner_id for job in jobs}),
        managers=await _by_id(db, RunnerManager, {job.runner_manager_id for job in jobs}),
        artifacts=artifacts,
        commits=commits,
    )


async def _by_id(db: AsyncSession, model: type[T], ids: Iterable[int | None]) -> dict[int, T]:
    wanted = {i for i in ids if i is not None}
    if not wanted:
        return {}
    return {row.id: row for row in await db.scalars(select(model).where(model.id.in_(wanted)))}


def _basic(ci: CiHalf, job: Job, of: Belongings) -> dict[str, Any]:
    settings = ci.forge.settings
    project, pipeline = of.projects[job.project_id], of.pipelines[job.pipeline_id]
    user = of.users.get(job.user_id) if job.user_id is not None else None
    commit = of.commits.get(pipeline.sha)
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "name": job.name,
        "ref": pipeline.ref,
        "tag": pipeline.is_tag,
        "coverage": job.coverage,
        "allow_failure": job.allow_failure,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "erased_at": timestamp(job.erased_at),
        "duration": _seconds(job.started_at, job.finished_at or _now_while(job.started_at)),
        "queued_duration": _seconds(job.queued_at, job.started_at or _end_of_queue(job)),
        "user": user_shown(settings, user) if user is not None else None,
        "commit": repository.commit(settings, project, commit) if commit is not None else None,
        "pipeline": pipeline_basic(settings, project, pipeline),
        **({"failure_reason": job.failure_reason} if job.failure_reason is not None else {}),
        "web_url": job_web_url(ci, project, job.id),
        "project": {"ci_job_token_scope_enabled": False},
    }


def _job(ci: CiHalf, job: Job, of: Belongings) -> dict[str, Any]:
    artifacts = of.artifacts.get(job.id, ())
    archive = next((a for a in artifacts if a.file_type == ARCHIVE), None)
    runner = of.runners.get(job.runner_id) if job.runner_id is not None else None
    manager = of.managers.get(job.runner_manager_id) if job.runner_manager_id is not None else None
    shown = _basic(ci, job, of)
    if archive is not None:
        shown["artifacts_file"] = {"filename": archive.filename, "size": archive.size}
    return shown | {
        "artifacts": [
            {"file_type": a.file_type, "size": a.size, "filename": a.filename, "file_format": a.file_format}
            for a in artifacts
        ],
        "runner": runner_basic(ci.limits, runner) if runner is not None else None,
        "runner_manager": manager_shown(ci.limits, manager) if manager is not None else None,
        "artifacts_expire_at": timestamp(job.artifacts_expire_at),
        "archived": False,
        "tag_list": list(job.tags),
    }


def _now_while(started_at: datetime | None) -> datetime | None:
    return datetime.now(UTC) if started_at is not None else None


def _end_of_queue(job: Job) -> datetime | None:
    """Of a job that never started: its end, or now while it waits."""
    return job.finished_at or _now_while(job.queued_at)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())
