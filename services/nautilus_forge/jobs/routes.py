"""Jobs of a project, as people and their clients see them.

Source: doc/api/jobs.md, doc/api/job_artifacts.md, GitLab lib/api/ci/{jobs,job_artifacts}.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import Principal, authenticated
from nautilus_forge.ci_half import Ci
from nautilus_forge.cursors import Keyset, newest_first
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Job
from nautilus_forge.errors import Forbidden, NotFound
from nautilus_forge.jobs import permission, service
from nautilus_forge.jobs.authorize import mask_for
from nautilus_forge.jobs.entities import show_job, show_jobs
from nautilus_forge.jobs.scopes import Scope
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id
from nautilus_forge.pipelines import origin
from nautilus_forge.pipelines.statuses import ON_RUNNER, Status
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json
from nautilus_forge.traces.serve import serve_trace

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_BUILD, job_token=True))]
Updatable = Annotated[ProjectAccess, Depends(project_with(Ability.UPDATE_BUILD))]
AnyProof = Annotated[Principal, Depends(authenticated(job_token=True))]
JobId = Annotated[int, Depends(path_id("job_id"))]


class ListJobs(Keyset):
    scope: Scope = Field(default_factory=list)


class Cancel(ParamModel):
    force: bool = False


class PlayVariable(ParamModel):
    key: str = Field(pattern=r"^[A-Za-z0-9_]+$", max_length=255)
    value: str


class Play(ParamModel):
    job_variables_attributes: list[PlayVariable] = Field(default_factory=list)


@router.get("/job")
async def own_job(who: AnyProof, db: Db, ci: Ci) -> Response:
    """The job whose token this is; 401 for a token that is none (any more), 404 for one that is no job's."""
    if who.job is None:
        raise NotFound("Job")
    return Json(await show_job(ci, db, await service.find_job(db, who.job.project_id, who.job.job_id)))


@router.get("/projects/{id}/jobs")
async def list_jobs(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListJobs, Params(ListJobs)]
) -> Response:
    statement = select(Job).where(Job.project_id == at.project.id, Job.is_external.is_(False))
    statement = statement.order_by(Job.id.desc())
    if params.scope:
        statement = statement.where(Job.status.in_(params.scope))
    if params.is_keyset:
        rows, headers = await newest_first(db, page, params, statement, Job.id)
        return Json(await show_jobs(ci, db, rows), headers=headers)
    total = await page.count(db, statement)
    jobs = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond(await show_jobs(ci, db, jobs), total)


@router.get("/projects/{id}/jobs/{job_id}")
async def read_job(at: Readable, db: Db, ci: Ci, job_id: JobId) -> Response:
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, job_id)))


@router.get("/projects/{id}/jobs/{job_id}/trace")
async def read_trace(request: Request, at: Readable, db: Db, ci: Ci, job_id: JobId) -> Response:
    """The log as it is now, byte ranges included. Its runner is asked to send it often from now on."""
    job = await service.find_job(db, at.project.id, job_id)
    mask = None
    if Status(job.status) in ON_RUNNER:
        ci.live.watch(job.id, ci.limits.watched_for_s)
        live = ci.live.get(job.id)
        mask = live.mask if live is not None else await mask_for(ci, db, job.project_id, None)
    return serve_trace(ci, request, job.id, mask)


@router.post("/projects/{id}/jobs/{job_id}/cancel")
async def cancel_job(
    at: Updatable, db: Db, ci: Ci, job_id: JobId, params: Annotated[Cancel, Params(Cancel)]
) -> Response:
    """201. `force` (maintainers) ends a job that is canceling."""
    if params.force:
        at.require(Ability.ADMIN_PROJECT)
    job = await service.find_job(db, at.project.id, job_id)
    await permission.require_update(db, at, job)
    await service.cancel(db, job, is_forced=params.force)
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, job_id)), 201)


@router.post("/projects/{id}/jobs/{job_id}/retry")
async def retry_job(at: Updatable, db: Db, ci: Ci, job_id: JobId) -> Response:
    """201 with the new job; 403 where the job is not over."""
    job = await service.find_job(db, at.project.id, job_id)
    await permission.require_update(db, at, job)
    new = await service.retry(db, job, at.user.id if at.user is not None else None)
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, new)), 201)


@router.post("/projects/{id}/jobs/{job_id}/play")
async def play_job(
    at: Updatable, db: Db, ci: Ci, job_id: JobId, params: Annotated[Play, Params(Play)]
) -> Response:
    """200 with the job; 400 where there is nothing to start."""
    job = await service.find_job(db, at.project.id, job_id)
    await permission.require_update(db, at, job)
    variables = {variable.key: variable.value for variable in params.job_variables_attributes}
    if variables and not origin.may_set_variables(at.project, at.standing.level):
        raise Forbidden
    user_id = at.user.id if at.user is not None else None
    started = await service.play(ci, db, job, user_id, variables)
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, started)))


@router.post("/projects/{id}/jobs/{job_id}/erase")
async def erase_job(at: Updatable, db: Db, ci: Ci, job_id: JobId) -> Response:
    """201; 403 for a job that is not over."""
    job = await service.find_job(db, at.project.id, job_id)
    await permission.require_erase(db, at, job)
    await service.erase(ci, db, job, at.user.id if at.user is not None else None)
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, job_id)), 201)
