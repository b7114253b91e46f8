"""`/hooks`: webhooks of the whole instance, for administrators.

Source: doc/api/system_hooks.md, gitlabhq lib/api/system_hooks.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import WebHook
from nautilus_forge.errors import NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Params, path_id, path_text
from nautilus_forge.responses import Json, no_content
from nautilus_forge.webhooks import entities, service
from nautilus_forge.webhooks.params import ChangeSystemHook, CreateSystemHook, OneValue
from nautilus_forge.webhooks.payloads.system import SAMPLE
from nautilus_forge.webhooks.routes import remove_value, send_now, set_value
from nautilus_forge.webhooks.sending import Call
from nautilus_forge.webhooks.triggers import SYSTEM

router = APIRouter()

HookId = Annotated[int, Depends(path_id("hook_id"))]
Key = Annotated[str, Depends(path_text("key"))]


def _all() -> Select[WebHook]:
    return select(WebHook).where(WebHook.project_id.is_(None))


async def _existing(db: AsyncSession, hook_id: int) -> WebHook:
    hook = await db.scalar(_all().where(WebHook.id == hook_id))
    if hook is None:
        raise NotFound
    return hook


@router.get("/hooks")
async def list_hooks(who: Admin, db: Db, forge: TheForge, page: Paged) -> Response:
    cipher = service.cipher_of(forge)
    return await page.of(db, _all().order_by(WebHook.id), lambda hook: entities.system_hook(cipher, hook))


@router.post("/hooks")
async def create_hook(
    who: Admin, db: Db, forge: TheForge, params: Annotated[CreateSystemHook, Params(CreateSystemHook)]
) -> Response:
    hook = await service.create(db, forge, None, params.url, params)
    return Json(entities.system_hook(service.cipher_of(forge), hook), 201)


@router.get("/hooks/{hook_id}")
async def read_hook(who: Admin, db: Db, forge: TheForge, hook_id: HookId) -> Response:
    return Json(entities.system_hook(service.cipher_of(forge), await _existing(db, hook_id)))


@router.put("/hooks/{hook_id}")
async def change_hook(
    who: Admin,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    params: Annotated[ChangeSystemHook, Params(ChangeSystemHook)],
) -> Response:
    hook = await _existing(db, hook_id)
    await service.change(db, forge, hook, params.url, params)
    return Json(entities.system_hook(service.cipher_of(forge), hook))


@router.post("/hooks/{hook_id}")
async def test_hook(who: Admin, db: Db, forge: TheForge, hook_id: HookId) -> Response:
    """Sends a sample, and answers with it, whatever comes back; what did is in the log."""
    hook = await _existing(db, hook_id)
    await send_now(db, forge, hook, Call.new(SYSTEM, SAMPLE))
    return Json(SAMPLE, 201)


@router.delete("/hooks/{hook_id}")
async def remove_hook(who: Admin, db: Db, hook_id: HookId) -> Response:
    await db.delete(await _existing(db, hook_id))
    return no_content()


@router.put("/hooks/{hook_id}/url_variables/{key}")
async def set_url_variable(
    who: Admin,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    key: Key,
    params: Annotated[OneValue, Params(OneValue)],
) -> Response:
    await set_value(db, forge, await _existing(db, hook_id), "url_variables", key, params.value)
    return no_content()


@router.delete("/hooks/{hook_id}/url_variables/{key}")
async def remove_url_variable(who: Admin, db: Db, forge: TheForge, hook_id: HookId, key: Key) -> Response:
    await remove_value(db, forge, await _existing(db, hook_id), "url_variables", key)
    return no_content()


@router.put("/hooks/{hook_id}/custom_headers/{key}")
async def set_custom_header(
    who: Admin,
    db: Db,
    forge: TheForge,
    hook_id: HookId,
    key: Key,
    params: Annotated[OneValue, Params(OneValue)],
) -> Response:
    await set_value(db, forge, await _existing(db, hook_id), "custom_headers", key, params.value)
    return no_content()


@router.delete("/hooks/{hook_id}/custom_headers/{key}")
async def remove_custom_header(who: Admin, db: Db, forge: TheForge, hook_id: HookId, key: Key) -> Response:
    await remove_value(db, forge, await _existing(db, hook_id), "custom_headers", key)
    return no_content()
