"""Trigger tokens of a project, and `POST …/trigger/pipeline`.

Source: doc/api/pipeline_triggers.md, GitLab lib/api/ci/triggers.rb.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Trigger, User
from nautilus_forge.errors import BadRequest, Forbidden, InvalidParams, InvalidRecord, NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, check, merged, path_id, takes
from nautilus_forge.pipelines.entities import OfJobs, pipeline_detail
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, find_project, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.triggers import service

router = APIRouter()

Manager = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_TRIGGER, anonymous=False))]
_KEY = re.compile(r"[a-zA-Z0-9_]{1,255}")
TriggerId = Annotated[int, Depends(path_id("trigger_id"))]


class CreateTrigger(ParamModel):
    description: str
    expires_at: datetime | None = None


class UpdateTrigger(ParamModel):
    description: str | None = None


class Fire(ParamModel):
    ref: str = Field(min_length=1)
    token: str
    variables: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)


@router.post("/projects/{id}/trigger/pipeline", openapi_extra=takes(Fire))
@router.post("/projects/{id}/ref/{ref:path}/trigger/pipeline", openapi_extra=takes(Fire))
async def fire(request: Request, db: Db, ci: Ci) -> Response:
    """201 with the pipeline; 400 where none is made, 404 for a token that is not this project's.

    A webhook of a pipeline cannot make the next one (403): that would go on for ever.
    """
    if request.headers.get("x-gitlab-event") == "Pipeline Hook":
        raise Forbidden
    values = dict(await merged(request))
    if "ref" in request.path_params:
        values["ref"] = unquote(request.path_params["ref"], errors="replace")
    params = check(Fire, values)
    if not all(isinstance(value, str) for value in params.variables.values()):
        raise BadRequest(message="variables needs to be a map of key-valued strings")
    if not all(_KEY.fullmatch(key) for key in params.variables):
        raise InvalidRecord({"variables.key": ["can contain only letters, digits and '_'."]})
    project = await find_project(db, unquote(request.path_params["id"], errors="replace"))
    if project is None:
        raise NotFound
    sent = {key: value for key, value in values.items() if key != "token"}
    sent |= {"variables": params.variables, "inputs": params.inputs, "id": request.path_params["id"]}
    try:
        pipeline = await service.fire(ci, db, project, params.token, params.ref, sent)
    except Refused as refused:
        raise InvalidRecord({"base": str(refused).split("\n")}) from refused
    user = await db.get(User, pipeline.user_id) if pipeline.user_id is not None else None
    detail = pipeline_detail(ci.forge.settings, project, pipeline, user, OfJobs())
    return Json(detail, 201)


@router.get("/projects/{id}/triggers")
async def list_triggers(at: Manager, db: Db, ci: Ci, page: Paged) -> Response:
    statement = select(Trigger).where(Trigger.project_id == at.project.id)
    total = await page.count(db, statement)
    statement = statement.order_by(Trigger.id).limit(page.per_page).offset(page.offset)
    triggers = (await db.scalars(statement)).all()
    owners = await service.owners_of(db, triggers)
    settings = ci.forge.settings
    shown = [service.shown(ci, settings, t, owners.get(t.owner_id), at.user) for t in triggers]
    return page.respond(shown, total)


@router.post("/projects/{id}/triggers")
async def create_trigger(
    at: Manager, db: Db, ci: Ci, params: Annotated[CreateTrigger, Params(CreateTrigger)]
) -> Response:
    """201 with the token, which its owner can read again."""
    if params.expires_at is not None and params.expires_at.tzinfo is None:
        raise InvalidParams("expires_at is invalid")
    owner = at.who.require_user()
    trigger = await service.create(ci, db, at.project.id, owner, params.description, params.expires_at)
    return await _shown(ci, db, at, trigger, 201)


@router.get("/projects/{id}/triggers/{trigger_id}")
async def read_trigger(at: Manager, db: Db, ci: Ci, trigger_id: TriggerId) -> Response:
    return await _shown(ci, db, at, await service.find(db, at.project.id, trigger_id))


@router.put("/projects/{id}/triggers/{trigger_id}")
async def update_trigger(
    at: Manager,
    db: Db,
    ci: Ci,
    trigger_id: TriggerId,
    params: Annotated[UpdateTrigger, Params(UpdateTrigger)],
) -> Response:
    """For its owner alone."""
    trigger = await service.find(db, at.project.id, trigger_id)
    if at.who.require_user().id != trigger.owner_id:
        raise Forbidden("The current user is not authorized to update the trigger token")
    if params.description is not None:
        trigger.description = params.description
    await db.flush()
    await db.refresh(trigger)
    return await _shown(ci, db, at, trigger)


@router.delete("/projects/{id}/triggers/{trigger_id}")
async def delete_trigger(at: Manager, db: Db, trigger_id: TriggerId) -> Response:
    await db.delete(await service.find(db, at.project.id, trigger_id))
    return no_content()


async def _shown(
    ci: CiHalf, db: AsyncSession, at: ProjectAccess, trigger: Trigger, status: int = 200
) -> Response:
    owner = await db.get(User, trigger.owner_id)
    return Json(service.shown(ci, ci.forge.settings, trigger, owner, at.user), status)
