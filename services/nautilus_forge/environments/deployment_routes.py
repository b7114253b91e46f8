"""Deployments of a project.

Source: doc/api/deployments.md, GitLab lib/api/deployments.rb, app/finders/deployments_finder.rb,
app/services/ci/deployments/destroy_service.rb, app/models/deployment.rb (validations).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Deployment, Environment
from nautilus_forge.environments import service
from nautilus_forge.environments.entities import deployment_detail, deployments_shown
from nautilus_forge.environments.names import name_problems
from nautilus_forge.errors import BadRequest, Forbidden, InvalidRecord, NotFound
from nautilus_forge.git import revisions
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id
from nautilus_forge.pipelines import origin
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content

router = APIRouter()

_READ = project_with(Ability.READ_ENVIRONMENT, anonymous=False, job_token=True)
_WRITE = project_with(Ability.UPDATE_ENVIRONMENT, job_token=True)
Readable = Annotated[ProjectAccess, Depends(_READ)]
Writable = Annotated[ProjectAccess, Depends(_WRITE)]
Destroyable = Annotated[ProjectAccess, Depends(project_with(Ability.DESTROY_DEPLOYMENT))]
DeploymentId = Annotated[int, Depends(path_id("deployment_id"))]
Reported = Literal["running", "success", "failed", "canceled"]
_EVENTS = {"running": "run", "success": "succeed", "failed": "drop", "canceled": "cancel"}
_AT = "/projects/{id}/deployments/{deployment_id}"


class ListDeployments(ParamModel):
    order_by: Literal["id", "iid", "created_at", "updated_at", "finished_at", "ref"] = "id"
    sort: Literal["asc", "desc"] = "asc"
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    environment: str | None = None
    status: Literal["created", "running", "success", "failed", "canceled", "skipped", "blocked"] | None = None


class CreateDeployment(ParamModel):
    environment: str
    sha: str
    ref: str
    tag: bool
    status: Reported


class UpdateDeployment(ParamModel):
    status: Reported


@router.get("/projects/{id}/deployments")
async def list_deployments(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListDeployments, Params(ListDeployments)]
) -> Response:
    statement = _filtered(select(Deployment).where(Deployment.project_id == at.project.id), params)
    column = getattr(Deployment, params.order_by)
    total = await page.count(db, statement)
    ordered = (column.asc(), Deployment.id) if params.sort == "asc" else (column.desc(), Deployment.id.desc())
    statement = statement.order_by(*ordered).limit(page.per_page).offset(page.offset)
    return page.respond(await deployments_shown(ci, db, (await db.scalars(statement)).all()), total)


def _filtered(statement: Select[Deployment], params: ListDeployments) -> Select[Deployment]:
    """Raises `BadRequest` for combinations that GitLab refuses to look for."""
    if (params.updated_after or params.updated_before) and params.order_by != "updated_at":
        raise BadRequest("`updated_at` filter requires `updated_at` sort")
    if (params.finished_after or params.finished_before) and params.status != "success":
        raise BadRequest("`finished_at` filter must be combined with `success` status filter.")
    if params.updated_after is not None:
        statement = statement.where(Deployment.updated_at >= params.updated_after)
    if params.updated_before is not None:
        statement = statement.where(Deployment.updated_at <= params.updated_before)
    if params.finished_after is not None:
        statement = statement.where(Deployment.finished_at >= params.finished_after)
    if params.finished_before is not None:
        statement = statement.where(Deployment.finished_at < params.finished_before)
    if params.status is not None:
        statement = statement.where(Deployment.status == params.status)
    if params.environment is not None:
        named = select(Environment.id).where(Environment.name == params.environment)
        statement = statement.where(Deployment.environment_id.in_(named))
    return statement


@router.post("/projects/{id}/deployments")
async def create_deployment(
    at: Writable, db: Db, ci: Ci, params: Annotated[CreateDeployment, Params(CreateDeployment)]
) -> Response:
    """201; the environment is made where there is none."""
    problems = await _problems(ci, params, at)
    environment = await service.ensure(db, at.project.id, params.environment) if not problems else None
    if environment is None:
        raise InvalidRecord(problems or {"name": name_problems(params.environment)})
    user = at.user
    deployment = Deployment(
        iid=await service.next_iid(db, at.project.id),
        project_id=at.project.id,
        environment_id=environment.id,
        user_id=user.id if user is not None else None,
        ref=params.ref,
        is_tag=params.tag,
        sha=params.sha,
        status=params.status,
        finished_at=None if params.status == "running" else await db.scalar(select(func.now())),
    )
    db.add(deployment)
    environment.state = "available"
    return await _shown(ci, db, deployment, 201)


async def _problems(ci: CiHalf, params: CreateDeployment, at: ProjectAccess) -> dict[str, list[str]]:
    git = ci.forge.repositories.git(at.project.id)
    problems = {}
    if not revisions.is_sha(params.sha) or await revisions.commit_sha(git, params.sha) is None:
        problems["sha"] = ["The commit does not exist"]
    prefix = "refs/tags/" if params.tag else "refs/heads/"
    if await origin.find_ref(git, prefix + params.ref) is None:
        problems["ref"] = ["The branch or tag does not exist"]
    return problems


@router.get(_AT)
async def read_deployment(at: Readable, db: Db, ci: Ci, deployment_id: DeploymentId) -> Response:
    return Json(await deployment_detail(ci, db, await _find(db, at, deployment_id)))


@router.put(_AT)
async def update_deployment(
    at: Writable,
    db: Db,
    ci: Ci,
    deployment_id: DeploymentId,
    params: Annotated[UpdateDeployment, Params(UpdateDeployment)],
) -> Response:
    """Only what was made by the API: a job's deployment is as its job."""
    deployment = await _find(db, at, deployment_id)
    if deployment.job_id is not None:
        raise Forbidden("Deployments created using GitLab CI can not be updated using the API")
    is_over = deployment.status in ("success", "failed", "canceled", "skipped")
    if deployment.status == params.status or (params.status == "running" and is_over):
        raise InvalidRecord({"status": [f'cannot transition via "{_EVENTS[params.status]}"']})
    deployment.status = params.status
    deployment.finished_at = None if params.status == "running" else await db.scalar(select(func.now()))
    return await _shown(ci, db, deployment)


@router.delete(_AT)
async def delete_deployment(at: Destroyable, db: Db, deployment_id: DeploymentId) -> Response:
    """204; 400 for one that runs, and for the one that an environment has now."""
    deployment = await _find(db, at, deployment_id)
    if deployment.status == "running":
        raise BadRequest(message="Cannot destroy running deployment")
    last = select(func.max(Deployment.id)).where(
        Deployment.environment_id == deployment.environment_id, Deployment.status == "success"
    )
    if await db.scalar(last) == deployment.id:
        raise BadRequest(message="Deployment currently deployed to environment")
    await db.delete(deployment)
    return no_content()


async def _find(db: AsyncSession, at: ProjectAccess, deployment_id: int) -> Deployment:
    """Raises `NotFound`."""
    found = await db.scalar(
        select(Deployment).where(Deployment.id == deployment_id, Deployment.project_id == at.project.id)
    )
    if found is None:
        raise NotFound
    return found


async def _shown(ci: CiHalf, db: AsyncSession, deployment: Deployment, status: int = 200) -> Response:
    await db.flush()
    await db.refresh(deployment)
    return Json(await deployment_detail(ci, db, deployment), status)
