"""Statuses of a commit: its jobs, as a status each, and what other systems report.

Source: doc/api/commits.md ("List the statuses of a commit"), GitLab lib/api/commit_statuses.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from starlette.responses import Response

from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Job, Pipeline, User
from nautilus_forge.errors import NotFound
from nautilus_forge.git import revisions
from nautilus_forge.jobs.entities import job_web_url
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, Id, ParamModel, Params, path_text
from nautilus_forge.pipelines import external
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, timestamp
from nautilus_forge.users.entities import user_basic

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PIPELINE))]
Reporting = Annotated[ProjectAccess, Depends(project_with(Ability.CREATE_PIPELINE, anonymous=False))]
Sha = Annotated[str, Depends(path_text("sha"))]


class ListStatuses(ParamModel):
    ref: str | None = None
    stage: str | None = None
    name: str | None = None
    pipeline_id: Id | None = None
    all: bool = False
    order_by: Literal["id", "pipeline_id"] = "id"
    sort: Literal["asc", "desc"] = "asc"


class ReportStatus(ParamModel):
    """`context`: the older word for `name`."""

    state: Literal["pending", "running", "success", "failed", "canceled", "skipped"]
    ref: str | None = None
    target_url: str | None = None
    description: str | None = None
    name: str | None = None
    context: str | None = None
    coverage: float | None = Field(default=None, allow_inf_nan=False)
    pipeline_id: Id | None = None


@router.get("/projects/{id}/repository/commits/{sha}/statuses")
async def list_statuses(
    at: Readable, db: Db, ci: Ci, page: Paged, sha: Sha, params: Annotated[ListStatuses, Params(ListStatuses)]
) -> Response:
    """404 for a commit that is none."""
    commit = await revisions.commit_sha(ci.forge.repositories.git(at.project.id), sha)
    if commit is None:
        raise NotFound("Commit")
    statement = (
        select(Job, Pipeline, User)
        .join(Pipeline, Pipeline.id == Job.pipeline_id)
        .outerjoin(User, User.id == Job.user_id)
        .where(Pipeline.project_id == at.project.id, Pipeline.sha == commit)
    )
    keys = [Job.id] if params.order_by == "id" else [Job.pipeline_id, Job.id]
    statement = statement.order_by(*(key.asc() if params.sort == "asc" else key.desc() for key in keys))
    for column, value in (
        (Pipeline.ref, params.ref),
        (Job.stage, params.stage),
        (Job.name, params.name),
        (Pipeline.id, params.pipeline_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if not params.all:
        statement = statement.where(Job.is_retried.is_(False))
    total = await page.count(db, statement.with_only_columns(Job.id))
    rows = (await db.execute(statement.limit(page.per_page).offset(page.offset))).all()

    return page.respond([_entity(ci, at, *row) for row in rows], total)


def _entity(ci: CiHalf, at: ProjectAccess, job: Job, pipeline: Pipeline, user: User | None) -> dict[str, Any]:
    """Source: gitlabhq lib/api/entities/commit_status.rb."""
    return {
        "id": job.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": job.status,
        "name": job.name,
        "target_url": job.target_url if job.is_external else job_web_url(ci, at.project, job.id),
        "description": job.description,
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
        "allow_failure": job.allow_failure,
        "coverage": job.coverage,
        "pipeline_id": pipeline.id,
        "author": user_basic(ci.forge.settings, user) if user is not None else None,
    }


@router.post("/projects/{id}/statuses/{sha}")
async def report_status(
    at: Reporting, db: Db, ci: Ci, sha: Sha, params: Annotated[ReportStatus, Params(ReportStatus)]
) -> Response:
    """A status of another system, in the newest pipeline of the commit (or a new one). Makes it or moves it on."""
    user = at.who.require_user()
    commit = await revisions.commit_sha(ci.forge.repositories.git(at.project.id), sha)
    if commit is None:
        raise NotFound("Commit")
    given = params.given()
    told = external.Report(
        sha=commit,
        state=Status(params.state),
        name=params.name or params.context or "default",
        ref=params.ref or None,
        pipeline_id=params.pipeline_id,
        given={name: given[name] for name in ("target_url", "description", "coverage") if name in given},
    )
    job, pipeline = await external.report(ci, db, at.project, user, at.standing.level, told)
    return Json(_entity(ci, at, job, pipeline, user), 201)
