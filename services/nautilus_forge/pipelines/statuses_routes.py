"""Statuses of a commit: its jobs, as a status each.

Source: doc/api/commits.md ("List the statuses of a commit"), GitLab lib/api/commit_statuses.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import select
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Job, Pipeline, User
from nautilus_forge.errors import NotFound
from nautilus_forge.git import revisions
from nautilus_forge.jobs.entities import job_web_url
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Id, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import timestamp
from nautilus_forge.users.entities import user_basic

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PIPELINE))]
Sha = Annotated[str, Depends(path_text("sha"))]


class ListStatuses(ParamModel):
    ref: str | None = None
    stage: str | None = None
    name: str | None = None
    pipeline_id: Id | None = None
    all: bool = False


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
        .order_by(Job.id)
    )
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

    def shown(job: Job, pipeline: Pipeline, user: User | None) -> dict[str, Any]:
        return {
            "id": job.id,
            "sha": pipeline.sha,
            "ref": pipeline.ref,
            "status": job.status,
            "name": job.name,
            "target_url": job_web_url(ci, at.project, job.id),
            "description": None,
            "created_at": timestamp(job.created_at),
            "started_at": timestamp(job.started_at),
            "finished_at": timestamp(job.finished_at),
            "allow_failure": job.allow_failure,
            "coverage": job.coverage,
            "pipeline_id": pipeline.id,
            "author": user_basic(ci.forge.settings, user) if user is not None else None,
        }

    return page.respond([shown(*row) for row in rows], total)
