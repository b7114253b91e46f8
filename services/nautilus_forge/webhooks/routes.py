"""`/projects/:id/hooks`: a project's webhooks, what was sent to them, tests.

Source: doc/api/project_webhooks.md, gitlabhq lib/api/project_hooks.rb, lib/api/hooks/*.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BeforeValidator
from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import WebHook, WebHookLog
from nautilus_forge.errors import InvalidParams, NotFound, Unprocessable
from nautilus_forge.forge import Forge
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id, path_text, split_commas
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.webhooks import building, entities, service
from nautilus_forge.webhooks.hook import opened
from nautilus_forge.webhooks.params import ChangeProjectHook, CreateProjectHook, OneValue
from nautilus_forge.webhooks.sending import Call, Outcome, call, note
from nautilus_forge.webhooks.triggers import PROJECT_TRIGGERS

router = APIRouter()

Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT, anonymous=False))]
HookId = Annotated[int, Depends(path_id("hook_id"))]
LogId = Annotated[int, Depends(path_id("hook_log_id"))]
Trigger = Annotated[str, Depends(path_text("trigger"))]
Key = Annotated[str, Depends(path_text("key"))]

_LONGEST_PAGE = 20
_KINDS: dict[str, tuple[str, str]] = {
    "successful": ("200", "299"),
    "client_failure": ("400", "499"),
    "server_failure": ("500", "599"),
}


class ListEvents(ParamModel):
    status: Annotated[list[str], BeforeValidator(split_commas)] = []  # noqa: RUF012


def _of(at: ProjectAccess) -> Select[WebHook]:
    return select(WebHook).where(WebHook.project_id == at.project.id)


async def _existing(db: AsyncSession, at: ProjectAccess, hook_id: int) -> WebHook:
    hook = await db.scalar(_of(at).where(WebHook.id == hook_id))
    if hook is None:
        raise NotFound
    return hook


@router.get("/projects/{id}/hooks")
async def list_hooks(at: Administer, db: Db, forge: TheForge, page: Paged) -> Response:
    cipher = service.cipher_of(forge)
    return await page.of(db, _of(at).order_by(WebHook.id), lambda hook: entities.project_hook(cipher, hook))


@router.post("/projects/{id}/hooks")
async def create_hook(
    at: Administer,
    db: Db,
    forge: TheForge,
    params: Annotated[CreateProjectHook, Params(CreateProjectHook)],
) -> Response:
    hook = await service.create(db, forge, at.project.id, params.url, params)
    return Json(entities.project_hook(service.cipher_of(forge), hook), 201)


@router.get("/projects/{id}/hooks/{hook_id}")
async def read_hook(at: Administer, db: Db, forge: TheForge, hook_id: HookId) -> Response:
    return Json(entities.project_hook(service.cipher_of(forge), await _existing(db, at, hook_id)))


@router.put("/projects/{id}/hooks/{hook_id}")
async def change_hook(
    at: Administer,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    params: Annotated[ChangeProjectHook, Params(ChangeProjectHook)],
) -> Response:
    hook = await _existing(db, at, hook_id)
    await service.change(db, forge, hook, params.url, params)
    return Json(entities.project_hook(service.cipher_of(forge), hook))


@router.delete("/projects/{id}/hooks/{hook_id}")
async def remove_hook(at: Administer, db: Db, hook_id: HookId) -> Response:
    await db.delete(await _existing(db, at, hook_id))
    return no_content()


@router.put("/projects/{id}/hooks/{hook_id}/url_variables/{key}")
async def set_url_variable(
    at: Administer,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    key: Key,
    params: Annotated[OneValue, Params(OneValue)],
) -> Response:
    await set_value(db, forge, await _existing(db, at, hook_id), "url_variables", key, params.value)
    return no_content()


@router.delete("/projects/{id}/hooks/{hook_id}/url_variables/{key}")
async def remove_url_variable(at: Administer, db: Db, forge: TheForge, hook_id: HookId, key: Key) -> Response:
    await remove_value(db, forge, await _existing(db, at, hook_id), "url_variables", key)
    return no_content()


@router.put("/projects/{id}/hooks/{hook_id}/custom_headers/{key}")
async def set_custom_header(
    at: Administer,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    key: Key,
    params: Annotated[OneValue, Params(OneValue)],
) -> Response:
    await set_value(db, forge, await _existing(db, at, hook_id), "custom_headers", key, params.value)
    return no_content()


@router.delete("/projects/{id}/hooks/{hook_id}/custom_headers/{key}")
async def remove_custom_header(
    at: Administer, db: Db, forge: TheForge, hook_id: HookId, key: Key
) -> Response:
    await remove_value(db, forge, await _existing(db, at, hook_id), "custom_headers", key)
    return no_content()


async def set_value(db: AsyncSession, forge: Forge, hook: WebHook, of: str, key: str, value: str) -> None:
    """One of the `url_variables` or `custom_headers`. Raises `Unprocessable`."""
    values = {**getattr(opened(service.cipher_of(forge), hook), of), key: value}
    try:
        await service.set_values(db, forge, hook, **{of: values})
    except Unprocessable as error:
        raise Unprocessable(body={"error": "Illegal key or value"}) from error


async def remove_value(db: AsyncSession, forge: Forge, hook: WebHook, of: str, key: str) -> None:
    """Raises `NotFound`; `Unprocessable` where the URL needs the variable."""
    values = dict(getattr(opened(service.cipher_of(forge), hook), of))
    thing = "URL variable" if of == "url_variables" else "Custom header"
    if values.pop(key, None) is None:
        raise NotFound(thing)
    try:
        await service.set_values(db, forge, hook, **{of: values})
    except Unprocessable as error:
        raise Unprocessable(body={"error": f"Could not unset {thing.rpartition(' ')[2]}"}) from error


@router.get("/projects/{id}/hooks/{hook_id}/events")
async def list_events(
    at: Administer,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    page: Paged,
    params: Annotated[ListEvents, Params(ListEvents)],
) -> Response:
    """What was sent in the last seven days, the newest first; 20 entries a page at most."""
    if page.per_page > _LONGEST_PAGE:
        raise InvalidParams("per_page does not have a valid value")
    hook = await _existing(db, at, hook_id)
    statement = select(WebHookLog).where(WebHookLog.hook_id == hook.id)
    if params.status:
        statement = statement.where(or_(*(_has_status(wanted) for wanted in params.status)))
    cipher = service.cipher_of(forge)
    return await page.of(
        db, statement.order_by(WebHookLog.id.desc()), lambda entry: entities.log_entry(cipher, entry)
    )


def _has_status(wanted: str) -> ColumnElement[bool]:
    """Raises `InvalidParams` for what is neither a status nor a kind of them."""
    if wanted in _KINDS:
        return WebHookLog.response_status.between(*_KINDS[wanted])
    if not (wanted.isascii() and wanted.isdigit() and 100 <= int(wanted) <= 511):
        raise InvalidParams("status does not have a valid value")
    return WebHookLog.response_status == wanted


@router.post("/projects/{id}/hooks/{hook_id}/test/{trigger}")
async def test_hook(at: Administer, db: Db, forge: TheForge, hook_id: HookId, trigger: Trigger) -> Response:
    """Sends a sample at once, to a disabled hook too; 201 once the receiver has taken it."""
    user = at.who.require_user()
    if trigger not in PROJECT_TRIGGERS:
        raise InvalidParams("trigger does not have a valid value")
    hook = await _existing(db, at, hook_id)
    forge.webhooks.tests.require(at.project.id, user.id)
    payload = await building.sample(db, forge, at.project, user, trigger)
    done = await send_now(db, forge, hook, Call.new(PROJECT_TRIGGERS[trigger], payload))
    if done.status is None or not 200 <= done.status < 300:
        raise Unprocessable(done.error if done.error is not None else done.body.decode("utf-8", "replace"))
    return Json({"message": "201 Created"}, 201)


@router.post("/projects/{id}/hooks/{hook_id}/events/{hook_log_id}/resend")
async def resend(at: Administer, db: Db, forge: TheForge, hook_id: HookId, hook_log_id: LogId) -> Response:
    """The same payload once more, with the ids that it had."""
    hook = await _existing(db, at, hook_id)
    forge.webhooks.resends.require(at.project.id, at.who.require_user().id)
    entry = await db.get(WebHookLog, hook_log_id)
    if entry is None or entry.hook_id != hook.id:
        raise NotFound
    cipher = service.cipher_of(forge)
    if entry.url != opened(cipher, hook).shown_url:
        raise Unprocessable("The hook URL has changed. Please use a new hook to resend the event.")
    sent = entry.request_headers
    done = await send_now(
        db,
        forge,
        hook,
        Call(
            entry.trigger,
            cipher.decrypt(entry.request_data).encode(),
            sent["X-Gitlab-Event-UUID"],
            sent["X-Gitlab-Webhook-UUID"],
            sent["Idempotency-Key"],
        ),
    )
    if done.status is None:
        raise Unprocessable(done.error)
    return Json({"response_status": done.status}, 201)


async def send_now(db: AsyncSession, forge: Forge, hook: WebHook, wanted: Call) -> Outcome:
    """Sends while the client waits, without a transaction; what came back is in the log when it is done."""
    cipher = service.cipher_of(forge)
    secrets = opened(cipher, hook)
    rules = await service.rules_of(db, forge, hook.project_id)
    await db.commit()
    done = await call(forge, hook, secrets, rules, wanted)
    again = await db.get(WebHook, hook.id, with_for_update=True, populate_existing=True)
    if again is not None:
        await note(db, forge, cipher, again, secrets, done)
    await db.commit()
    return done
