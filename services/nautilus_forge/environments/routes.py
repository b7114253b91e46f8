"""Environments of a project.

Source: doc/api/environments.md, GitLab lib/api/environments.rb, app/models/environment.rb (validations),
app/policies/environment_policy.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci.slugs import environment_slug, environment_tier
from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Deployment, Environment
from nautilus_forge.environments import service
from nautilus_forge.environments.entities import deployments_shown, environment_shown
from nautilus_forge.environments.names import name_problems, url_problems
from nautilus_forge.errors import BadRequest, Forbidden, InvalidParams, InvalidRecord
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.queries import like

router = APIRouter()

_READ = project_with(Ability.READ_ENVIRONMENT, anonymous=False, job_token=True)
_WRITE = project_with(Ability.UPDATE_ENVIRONMENT, job_token=True)
Readable = Annotated[ProjectAccess, Depends(_READ)]
Writable = Annotated[ProjectAccess, Depends(_WRITE)]
EnvironmentId = Annotated[int, Depends(path_id("environment_id"))]
Tier = Literal["production", "staging", "testing", "development", "other"]
AutoStop = Literal["always", "with_action"]
_AT = "/projects/{id}/environments/{environment_id}"
_MIN_SEARCH = 3
_COLUMNS = ("external_url", "tier", "description", "auto_stop_setting")


class ListEnvironments(ParamModel):
    name: str | None = None
    search: str | None = None
    states: Literal["available", "stopping", "stopped"] | None = None


class CreateEnvironment(ParamModel):
    name: str
    external_url: str | None = None
    tier: Tier | None = None
    description: str | None = None
    auto_stop_setting: AutoStop = "always"


class UpdateEnvironment(ParamModel):
    external_url: str | None = None
    tier: Tier | None = None
    description: str | None = None
    auto_stop_setting: AutoStop | None = None


class Stop(ParamModel):
    force: bool = False


class StopStale(ParamModel):
    before: datetime


@router.get("/projects/{id}/environments")
async def list_environments(
    at: Readable,
    db: Db,
    ci: Ci,
    page: Paged,
    params: Annotated[ListEnvironments, Params(ListEnvironments)],
) -> Response:
    if params.name is not None and params.search is not None:
        raise InvalidParams("name, search cannot be used together")
    if params.search and len(params.search) < _MIN_SEARCH:
        raise BadRequest(f"Search query is less than {_MIN_SEARCH} characters")
    statement = select(Environment).where(Environment.project_id == at.project.id)
    if params.name is not None:
        statement = statement.where(Environment.name == params.name)
    if params.search:
        statement = statement.where(Environment.name.ilike(like(params.search)))
    if params.states is not None:
        statement = statement.where(Environment.state == params.states)
    settings = ci.forge.settings
    return await page.of(
        db,
        statement.order_by(Environment.id),
        lambda environment: environment_shown(settings, environment, at.project),
    )


@router.post("/projects/{id}/environments")
async def create_environment(
    at: Writable, db: Db, ci: Ci, params: Annotated[CreateEnvironment, Params(CreateEnvironment)]
) -> Response:
    """201; 400 with the problems by field."""
    problems = {"name": name_problems(params.name), "external_url": url_problems(params.external_url)}
    if await service.by_name(db, at.project.id, params.name) is not None:
        problems["name"] = ["has already been taken"]
    _require_none(problems)
    environment = Environment(
        project_id=at.project.id,
        name=params.name,
        slug=environment_slug(params.name),
        tier=params.tier or environment_tier(params.name),
        external_url=params.external_url or None,
        description=params.description,
        auto_stop_setting=params.auto_stop_setting,
    )
    db.add(environment)
    await db.flush()
    await db.refresh(environment)
    return Json(environment_shown(ci.forge.settings, environment, at.project), 201)


def _require_none(problems: dict[str, list[str]]) -> None:
    found = {field: messages for field, messages in problems.items() if messages}
    if found:
        raise InvalidRecord(found)


@router.post("/projects/{id}/environments/stop_stale")
async def stop_stale(
    at: Writable, db: Db, ci: Ci, params: Annotated[StopStale, Params(StopStale)]
) -> Response:
    """Stops what was neither changed nor deployed to since. Source: app/services/environments/stop_stale_service.rb."""
    now, before = datetime.now(UTC), params.before
    before = before if before.tzinfo is not None else before.replace(tzinfo=UTC)
    if not now - timedelta(days=3653) <= before <= now - timedelta(days=7):
        raise BadRequest("Invalid Date")
    recent = select(Deployment.environment_id).where(
        Deployment.project_id == at.project.id, Deployment.updated_at >= before
    )
    stale = select(Environment.id).where(
        Environment.project_id == at.project.id,
        Environment.state == "available",
        Environment.updated_at < before,
        Environment.id.not_in(recent),
    )
    user = at.user
    for environment_id in (await db.scalars(stale)).all():
        await service.stop(ci, db, environment_id, user.id if user is not None else None)
    return Json({"message": "Successfully scheduled stale environments to stop"})


@router.get(_AT)
async def read_environment(at: Readable, db: Db, ci: Ci, environment_id: EnvironmentId) -> Response:
    """With the last deployment that succeeded."""
    environment = await service.find(db, at.project.id, environment_id)
    statement = select(Deployment).where(
        Deployment.environment_id == environment.id, Deployment.status == "success"
    )
    last = await db.scalar(statement.order_by(Deployment.id.desc()).limit(1))
    shown = environment_shown(ci.forge.settings, environment, None)
    shown["last_deployment"] = None
    if last is not None:
        shown["last_deployment"] = (await deployments_shown(ci, db, [last], with_environment=False))[0]
    return Json(shown)


@router.put(_AT)
async def update_environment(
    at: Writable,
    db: Db,
    ci: Ci,
    environment_id: EnvironmentId,
    params: Annotated[UpdateEnvironment, Params(UpdateEnvironment)],
) -> Response:
    environment = await service.find(db, at.project.id, environment_id)
    given = params.given()
    _require_none({"external_url": url_problems(given.get("external_url"))})
    for name in _COLUMNS:
        if name in given and (given[name] is not None or name in ("external_url", "description")):
            setattr(environment, name, given[name] or None)
    return await _shown(ci, db, at, environment)


@router.delete(_AT)
async def delete_environment(at: Writable, db: Db, environment_id: EnvironmentId) -> Response:
    """204, with its deployments; 403 before it is stopped."""
    environment = await service.find(db, at.project.id, environment_id)
    if environment.state != "stopped":
        raise Forbidden
    await db.delete(environment)
    return no_content()


@router.post(_AT + "/stop")
async def stop_environment(
    at: Writable, db: Db, ci: Ci, environment_id: EnvironmentId, params: Annotated[Stop, Params(Stop)]
) -> Response:
    """200: `stopped`, or `stopping` while the job of `on_stop` runs. `force`: without that job."""
    environment = await service.find(db, at.project.id, environment_id)
    if environment.state == "available" or (params.force and environment.state == "stopping"):
        user = at.user
        user_id = user.id if user is not None else None
        await service.stop(ci, db, environment.id, user_id, is_forced=params.force)
    return await _shown(ci, db, at, environment)


async def _shown(ci: CiHalf, db: AsyncSession, at: ProjectAccess, environment: Environment) -> Response:
    await db.flush()
    await db.refresh(environment)
    return Json(environment_shown(ci.forge.settings, environment, at.project))
