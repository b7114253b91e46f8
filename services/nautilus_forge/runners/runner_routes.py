"""What a runner calls about itself: registering, proving its token, leaving.

Source: docs of the runner protocol; GitLab lib/api/ci/runner.rb, spec/requests/api/ci/runner/runners_*_spec.rb.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from sqlalchemy import delete, select
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Runner, RunnerManager
from nautilus_forge.errors import InvalidParams, NotFound
from nautilus_forge.jobs.wakeups import RunnerChanged, tell
from nautilus_forge.params import CommaList, Field, ParamModel, Params, merged, takes
from nautilus_forge.responses import Json, no_content
from nautilus_forge.runners import entities, service
from nautilus_forge.runners.errors import RegistrationDisabled, UnknownRunner
from nautilus_forge.runners.identity import address_of, find_runner, note_runner, runner_token

router = APIRouter()


class Register(ParamModel):
    token: str
    description: str | None = None
    maintainer_note: str | None = None
    maintenance_note: str | None = None
    active: bool | None = None
    paused: bool | None = None
    locked: bool | None = None
    access_level: Literal["not_protected", "ref_protected"] | None = None
    run_untagged: bool | None = None
    tag_list: CommaList | None = None
    maximum_timeout: int | None = Field(default=None, lt=1 << 31)


@router.post("/runners", openapi_extra=takes("info"))
async def register(request: Request, db: Db, params: Annotated[Register, Params(Register)]) -> Response:
    """201; 400; 403 for a token that is none; 410 where registration tokens are switched off."""
    if not (await current_values(db)).allow_runner_registration_token:
        raise RegistrationDisabled
    given = params.given()
    note = given.pop("maintainer_note", None)
    if given.get("maintenance_note") is None and note is not None:
        given["maintenance_note"] = note
    runner, token = await service.register(db, params.token, given)
    await note_runner(db, runner.id, await merged(request), address_of(request))
    return Json(entities.registered(runner, token), 201)


@router.delete("/runners", openapi_extra=takes("token"))
async def unregister(request: Request, db: Db) -> Response:
    """204; 403."""
    found = await find_runner(db, runner_token(request, await merged(request)))
    await service.delete(db, await db.get_one(Runner, found.id))
    return no_content()


@router.delete("/runners/managers", openapi_extra=takes("token", "system_id"))
async def unregister_manager(request: Request, db: Db) -> Response:
    """204; 400; 403; 404 for a system id that the runner does not know."""
    params = await merged(request)
    found = await find_runner(db, runner_token(request, params))
    system_id = params.get("system_id")
    if not isinstance(system_id, str) or not system_id:
        raise InvalidParams("system_id is missing")
    chosen = (RunnerManager.runner_id == found.id, RunnerManager.system_id == system_id)
    if await db.scalar(select(RunnerManager.id).where(*chosen)) is None:
        raise NotFound("Runner manager")
    await db.execute(delete(RunnerManager).where(*chosen))
    await tell(db, RunnerChanged(found.id))
    return no_content()


@router.post("/runners/verify", openapi_extra=takes("token", "system_id", "info"))
async def verify(request: Request, db: Db) -> Response:
    """200 where the token is good; 403."""
    params = await merged(request)
    token = runner_token(request, params)
    found = await find_runner(db, token)
    await note_runner(db, found.id, params, address_of(request))
    return Json(entities.registered(await db.get_one(Runner, found.id), token))


@router.post("/runners/reset_authentication_token", openapi_extra=takes("token"))
async def reset_authentication_token(request: Request, db: Db) -> Response:
    """201 with the new token; the old one is refused from then on."""
    found = await find_runner(db, runner_token(request, await merged(request)))
    runner = await db.get_one(Runner, found.id)
    token = await service.reset_token(db, runner)
    return Json(entities.token_reset(token, runner.token_expires_at), 201)


@router.get("/runners/router/discovery")
async def discover_router(request: Request, db: Db) -> Response:
    """There is no job router: 501, which a runner takes for "go on polling"."""
    token = request.headers.get("runner-token")
    if not token:
        raise UnknownRunner
    await find_runner(db, token)
    return Json({"message": "501 Not Implemented"}, 501)
