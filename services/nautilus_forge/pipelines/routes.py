"""Pipelines of a project.

Source: doc/api/pipelines.md, GitLab lib/api/ci/pipelines.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci.model import Variable
from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Job, Pipeline, User
from nautilus_forge.errors import Forbidden, InvalidRecord
from nautilus_forge.git import revisions
from nautilus_forge.jobs.entities import show_jobs
from nautilus_forge.jobs.permission import require_ref
from nautilus_forge.jobs.scopes import Scope
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id
from nautilus_forge.pipelines import creation, origin, service
from nautilus_forge.pipelines.entities import pipeline_detail, pipeline_listed
from nautilus_forge.pipelines.listing import PipelineFilter, filtered
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.variables.assemble import pipeline_variables

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PIPELINE))]
ReadableByJob = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PIPELINE, job_token=True))]
Creatable = Annotated[ProjectAccess, Depends(project_with(Ability.CREATE_PIPELINE))]
Updatable = Annotated[ProjectAccess, Depends(project_with(Ability.UPDATE_PIPELINE))]
Destroyable = Annotated[ProjectAccess, Depends(project_with(Ability.DESTROY_PIPELINE))]
PipelineId = Annotated[int, Depends(path_id("pipeline_id"))]


class ListPipelines(PipelineFilter):
    order_by: Literal["id", "status", "ref", "updated_at", "user_id"] = "id"
    sort: Literal["asc", "desc"] = "desc"


class GivenVariable(ParamModel):
    key: str = Field(pattern=r"^[A-Za-z0-9_]+$", max_length=255)
    value: str
    variable_type: Literal["env_var", "file"] = "env_var"


class CreatePipeline(ParamModel):
    ref: str
    variables: list[GivenVariable] = Field(default_factory=list)
    inputs: dict[str, Any] = Field(default_factory=dict)


class Latest(ParamModel):
    ref: str | None = None


class ListJobs(ParamModel):
    scope: Scope = Field(default_factory=list)
    include_retried: bool = False


class Rename(ParamModel):
    name: str = Field(max_length=255)


@router.get("/projects/{id}/pipelines")
async def list_pipelines(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListPipelines, Params(ListPipelines)]
) -> Response:
    statement = filtered(select(Pipeline).where(Pipeline.project_id == at.project.id), params)
    column = getattr(Pipeline, params.order_by)
    statement = statement.order_by(column.asc() if params.sort == "asc" else column.desc())
    settings = ci.forge.settings
    return await page.of(db, statement, lambda pipeline: pipeline_listed(settings, at.project, pipeline))


@router.post("/projects/{id}/pipeline")
async def create_pipeline(
    at: Creatable, db: Db, ci: Ci, params: Annotated[CreatePipeline, Params(CreatePipeline)]
) -> Response:
    """201; 400 with `message.base` for a ref that is none, and for a configuration that makes no pipeline."""
    git, level = ci.forge.repositories.git(at.project.id), at.standing.level
    given = [Variable(v.key, v.value, public=False, file=v.variable_type == "file") for v in params.variables]
    try:
        source = await origin.source_of(db, git, at.project, at.user, level, params.ref, "api")
        origin.require_variables(at.project, level, given)
        plan = creation.Plan(source, given, keeps_errors=False, inputs=params.inputs)
        pipeline = await creation.create(ci, db, plan)
    except Refused as refused:
        raise InvalidRecord({"base": str(refused).split("\n")}) from refused
    return await _shown(ci, db, at, pipeline, 201)


@router.get("/projects/{id}/pipelines/latest")
async def latest_pipeline(
    at: Readable, db: Db, ci: Ci, params: Annotated[Latest, Params(Latest)]
) -> Response:
    """The newest pipeline of the ref's newest commit; 403 where there is none, as GitLab answers."""
    ref = params.ref or at.project.default_branch
    sha = await revisions.commit_sha(ci.forge.repositories.git(at.project.id), ref)
    statement = (
        select(Pipeline)
        .where(Pipeline.project_id == at.project.id, Pipeline.ref == ref, Pipeline.sha == (sha or ""))
        .order_by(Pipeline.id.desc())
        .limit(1)
    )
    pipeline = await db.scalar(statement)
    if pipeline is None:
        raise Forbidden
    return await _shown(ci, db, at, pipeline)


@router.get("/projects/{id}/pipelines/{pipeline_id}")
async def read_pipeline(at: Readable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    return await _shown(ci, db, at, await service.find_pipeline(db, at.project.id, pipeline_id))


@router.delete("/projects/{id}/pipelines/{pipeline_id}")
async def delete_pipeline(at: Destroyable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    await service.delete_pipeline(ci, db, await service.find_pipeline(db, at.project.id, pipeline_id))
    return no_content()


@router.put("/projects/{id}/pipelines/{pipeline_id}/metadata")
async def rename_pipeline(
    at: Updatable, db: Db, ci: Ci, pipeline_id: PipelineId, params: Annotated[Rename, Params(Rename)]
) -> Response:
    pipeline = await service.find_pipeline(db, at.project.id, pipeline_id)
    pipeline.name = params.name
    await db.flush()
    await db.refresh(pipeline)
    return await _shown(ci, db, at, pipeline)


@router.post("/projects/{id}/pipelines/{pipeline_id}/cancel")
async def cancel_pipeline(at: Updatable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    """200, also where there is nothing to cancel."""
    pipeline = await service.find_pipeline(db, at.project.id, pipeline_id)
    await require_ref(db, at, pipeline)
    await service.cancel_pipeline(db, pipeline)
    return await _shown(ci, db, at, await service.find_pipeline(db, at.project.id, pipeline_id))


@router.post("/projects/{id}/pipelines/{pipeline_id}/retry")
async def retry_pipeline(at: Updatable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    pipeline = await service.find_pipeline(db, at.project.id, pipeline_id)
    await require_ref(db, at, pipeline)
    await service.retry_pipeline(db, pipeline, at.user.id if at.user is not None else None)
    return await _shown(ci, db, at, await service.find_pipeline(db, at.project.id, pipeline_id), 201)


@router.get("/projects/{id}/pipelines/{pipeline_id}/jobs")
async def list_jobs(
    at: ReadableByJob,
    db: Db,
    ci: Ci,
    page: Paged,
    pipeline_id: PipelineId,
    params: Annotated[ListJobs, Params(ListJobs)],
) -> Response:
    pipeline = await service.find_pipeline(db, at.project.id, pipeline_id)
    statement = select(Job).where(Job.pipeline_id == pipeline.id, Job.is_external.is_(False))
    statement = statement.order_by(Job.id.desc())
    if not params.include_retried:
        statement = statement.where(Job.is_retried.is_(False))
    if params.scope:
        statement = statement.where(Job.status.in_(params.scope))
    total = await page.count(db, statement)
    jobs = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond(await show_jobs(ci, db, jobs), total)


@router.get("/projects/{id}/pipelines/{pipeline_id}/bridges")
async def list_bridges(at: Readable, db: Db, page: Paged, pipeline_id: PipelineId) -> Response:
    """Trigger jobs: the compiler refuses them by name, so no pipeline has any."""
    await service.find_pipeline(db, at.project.id, pipeline_id)
    return page.respond([], 0)


@router.get("/projects/{id}/pipelines/{pipeline_id}/variables")
async def list_variables(at: Readable, db: Db, ci: Ci, pipeline_id: PipelineId) -> Response:
    """For maintainers, and for whoever made the pipeline."""
    pipeline = await service.find_pipeline(db, at.project.id, pipeline_id)
    is_own = at.user is not None and at.user.id == pipeline.user_id
    if not is_own or not at.can(Ability.UPDATE_PIPELINE):
        at.require(Ability.READ_VARIABLE)
    variables = await pipeline_variables(db, ci.cipher, pipeline.id)
    return Json(
        [
            {
                "variable_type": "file" if variable.file else "env_var",
                "key": variable.key,
                "value": variable.value,
                "raw": variable.raw,
            }
            for variable in variables
        ]
    )


async def _shown(
    ci: CiHalf, db: AsyncSession, at: ProjectAccess, pipeline: Pipeline, status: int = 200
) -> Response:
    user = await db.get(User, pipeline.user_id) if pipeline.user_id is not None else None
    known = await service.of_jobs(db, pipeline.id)
    return Json(pipeline_detail(ci.forge.settings, at.project, pipeline, user, known), status)
