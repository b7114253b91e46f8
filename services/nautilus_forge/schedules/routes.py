"""Schedules of a project.

Source: doc/api/pipeline_schedules.md, GitLab lib/api/ci/pipeline_schedules.rb.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Pipeline, PipelineSchedule, User
from nautilus_forge.errors import Forbidden
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id, path_text
from nautilus_forge.pipelines import origin
from nautilus_forge.pipelines.entities import pipeline_listed
from nautilus_forge.pipelines.listing import PipelineFilter, filtered
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.schedules import service
from nautilus_forge.schedules.entities import schedule_detail, schedule_shown, variable_shown

log = logging.getLogger(__name__)

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PIPELINE, anonymous=False))]
Creatable = Annotated[ProjectAccess, Depends(project_with(Ability.CREATE_PIPELINE))]
ScheduleId = Annotated[int, Depends(path_id("pipeline_schedule_id", "Pipeline Schedule"))]
Key = Annotated[str, Depends(path_text("key"))]
Kind = Literal["env_var", "file"]
_AT = "/projects/{id}/pipeline_schedules/{pipeline_schedule_id}"


class ListSchedules(ParamModel):
    scope: Literal["active", "inactive"] | None = None


class Input(ParamModel):
    name: str
    value: Any = None
    destroy: bool = False


class CreateSchedule(ParamModel):
    description: str
    ref: str = Field(min_length=1)
    cron: str
    cron_timezone: str = "UTC"
    active: bool = True
    inputs: list[Input] = Field(default_factory=list)


class UpdateSchedule(ParamModel):
    description: str | None = None
    ref: str | None = Field(default=None, min_length=1)
    cron: str | None = None
    cron_timezone: str | None = None
    active: bool | None = None
    inputs: list[Input] | None = None


class ListPipelines(PipelineFilter):
    sort: Literal["asc", "desc"] = "asc"


class CreateVariable(ParamModel):
    key: str
    value: str
    variable_type: Kind = "env_var"


class UpdateVariable(ParamModel):
    value: str | None = None
    variable_type: Kind | None = None


@router.get("/projects/{id}/pipeline_schedules")
async def list_schedules(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListSchedules, Params(ListSchedules)]
) -> Response:
    statement = select(PipelineSchedule).where(PipelineSchedule.project_id == at.project.id)
    if params.scope is not None:
        statement = statement.where(PipelineSchedule.is_active.is_(params.scope == "active"))
    total = await page.count(db, statement)
    statement = statement.order_by(PipelineSchedule.id).limit(page.per_page).offset(page.offset)
    schedules = (await db.scalars(statement)).all()
    ids = {schedule.owner_id for schedule in schedules if schedule.owner_id is not None}
    owners = {user.id: user for user in await db.scalars(select(User).where(User.id.in_(ids)))}
    settings = ci.forge.settings
    return page.respond([schedule_shown(settings, s, owners.get(s.owner_id or 0)) for s in schedules], total)


@router.post("/projects/{id}/pipeline_schedules")
async def create_schedule(
    at: Creatable, db: Db, ci: Ci, params: Annotated[CreateSchedule, Params(CreateSchedule)]
) -> Response:
    """201; 400 with the problems by field."""
    schedule = await service.create(ci, db, at, params.model_dump())
    return await _shown(ci, db, at, schedule, 201)


@router.get(_AT)
async def read_schedule(at: Readable, db: Db, ci: Ci, schedule_id: ScheduleId) -> Response:
    return await _shown(ci, db, at, await service.find(db, at.project.id, schedule_id))


@router.put(_AT)
async def update_schedule(
    at: Readable,
    db: Db,
    ci: Ci,
    schedule_id: ScheduleId,
    params: Annotated[UpdateSchedule, Params(UpdateSchedule)],
) -> Response:
    schedule = await service.find(db, at.project.id, schedule_id)
    await service.require_update(db, at, schedule)
    await service.change(ci, db, at, schedule, params.given())
    return await _shown(ci, db, at, schedule)


@router.delete(_AT)
async def delete_schedule(at: Readable, db: Db, schedule_id: ScheduleId) -> Response:
    """204; its pipelines stay."""
    schedule = await service.find(db, at.project.id, schedule_id)
    service.require_admin(at, schedule)
    await db.delete(schedule)
    return no_content()


@router.post(_AT + "/take_ownership")
async def take_ownership(at: Readable, db: Db, ci: Ci, schedule_id: ScheduleId) -> Response:
    """201; 200 for who owns it already."""
    schedule = await service.find(db, at.project.id, schedule_id)
    service.require_admin(at, schedule)
    user = at.who.require_user()
    status = 200 if schedule.owner_id == user.id else 201
    schedule.owner_id = user.id
    await db.flush()
    await db.refresh(schedule)
    return await _shown(ci, db, at, schedule, status)


@router.post(_AT + "/play")
async def play_schedule(at: Readable, db: Db, ci: Ci, schedule_id: ScheduleId) -> Response:
    """201 without a body worth reading, also where the configuration makes no pipeline (as GitLab answers)."""
    schedule = await service.find(db, at.project.id, schedule_id)
    at.require(Ability.CREATE_PIPELINE)
    user, level = at.who.require_user(), at.standing.level
    found = await origin.find_ref(ci.forge.repositories.git(at.project.id), schedule.ref)
    if found is not None and not await origin.may_run_on(
        db, at.project.id, found.name, is_tag=found.is_tag, level=level
    ):
        raise Forbidden
    try:
        await service.make_pipeline(ci, db, schedule, at.project, user, level)
    except Refused as refused:
        log.warning("schedule %s was played and made no pipeline: %s", schedule.id, refused)
    return Json({"message": "201 Created"}, 201)


@router.get(_AT + "/pipelines")
async def list_pipelines(
    at: Readable,
    db: Db,
    ci: Ci,
    page: Paged,
    schedule_id: ScheduleId,
    params: Annotated[ListPipelines, Params(ListPipelines)],
) -> Response:
    schedule = await service.find(db, at.project.id, schedule_id)
    statement = filtered(select(Pipeline).where(Pipeline.schedule_id == schedule.id), params)
    statement = statement.order_by(Pipeline.id.asc() if params.sort == "asc" else Pipeline.id.desc())
    settings = ci.forge.settings
    return await page.of(db, statement, lambda pipeline: pipeline_listed(settings, at.project, pipeline))


@router.post(_AT + "/variables")
async def create_variable(
    at: Readable,
    db: Db,
    ci: Ci,
    schedule_id: ScheduleId,
    params: Annotated[CreateVariable, Params(CreateVariable)],
) -> Response:
    schedule = await service.find(db, at.project.id, schedule_id)
    _require_variables(at)
    await service.require_update(db, at, schedule)
    made = await service.create_variable(ci, db, schedule.id, params.key, params.value, params.variable_type)
    return Json(variable_shown(ci, made), 201)


@router.get(_AT + "/variables/{key}")
async def read_variable(at: Readable, db: Db, ci: Ci, schedule_id: ScheduleId, key: Key) -> Response:
    schedule = await service.find(db, at.project.id, schedule_id)
    service.require_admin(at, schedule)
    return Json(variable_shown(ci, await service.find_variable(db, schedule.id, key)))


@router.put(_AT + "/variables/{key}")
async def update_variable(
    at: Readable,
    db: Db,
    ci: Ci,
    schedule_id: ScheduleId,
    key: Key,
    params: Annotated[UpdateVariable, Params(UpdateVariable)],
) -> Response:
    schedule = await service.find(db, at.project.id, schedule_id)
    _require_variables(at)
    await service.require_update(db, at, schedule)
    variable = await service.find_variable(db, schedule.id, key)
    if params.value is not None:
        variable.value = ci.cipher.encrypt(params.value)
    if params.variable_type is not None:
        variable.variable_type = params.variable_type
    await db.flush()
    return Json(variable_shown(ci, variable))


@router.delete(_AT + "/variables/{key}")
async def delete_variable(at: Readable, db: Db, ci: Ci, schedule_id: ScheduleId, key: Key) -> Response:
    """202 with the variable."""
    schedule = await service.find(db, at.project.id, schedule_id)
    _require_variables(at)
    service.require_admin(at, schedule)
    variable = await service.find_variable(db, schedule.id, key)
    await db.delete(variable)
    return Json(variable_shown(ci, variable), 202)


def _require_variables(at: ProjectAccess) -> None:
    """Raises `Forbidden`."""
    if not origin.may_set_variables(at.project, at.standing.level):
        raise Forbidden


async def _shown(
    ci: CiHalf, db: AsyncSession, at: ProjectAccess, schedule: PipelineSchedule, status: int = 200
) -> Response:
    owner = await db.get(User, schedule.owner_id) if schedule.owner_id is not None else None
    variables = await service.variables_of(db, schedule.id) if service.may_admin(at, schedule) else None
    last = await service.last_pipeline(db, schedule.id)
    return Json(schedule_detail(ci, at.project, schedule, owner, last, variables), status)
