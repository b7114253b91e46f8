"""From the outbox to deliveries: the payload is made once, and stored for each hook that wants it.

In one transaction: a crash leaves either the event or its deliveries, never both and never neither.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import WebHook, WebhookDelivery, WebhookEvent
from nautilus_forge.forge import Forge
from nautilus_forge.webhooks import building, filters
from nautilus_forge.webhooks.disabling import is_disabled
from nautilus_forge.webhooks.service import cipher_of
from nautilus_forge.webhooks.triggers import FLAG_OF, SYSTEM

log = logging.getLogger(__name__)

AT_ONCE = 20
MOST_WAITING = 1000
"""Deliveries that wait for one hook; while there are so many, what happens is not told to it."""
LONGEST_PAYLOAD_BYTES = 25 << 20
"""Source: gitlabhq app/services/web_hook_service.rb (`REQUEST_BODY_SIZE_LIMIT`)."""


async def expand(forge: Forge) -> bool:
    """The oldest events; False where there were none."""
    async with forge.database.unit_of_work() as db:
        statement = select(WebhookEvent).order_by(WebhookEvent.id).limit(AT_ONCE)
        rows = (await db.scalars(statement.with_for_update(skip_locked=True))).all()
        for row in rows:
            try:
                async with db.begin_nested():
                    await _expand_one(db, forge, row)
            except SQLAlchemyError:
                raise
            except Exception:
                log.exception("event %s of webhooks (%s) cannot be told", row.uuid, row.trigger)
            await db.delete(row)
    return bool(rows)


async def _expand_one(db: AsyncSession, forge: Forge, row: WebhookEvent) -> None:
    hooks = await _wanting(db, row)
    if not hooks:
        return
    payload = await building.build(db, forge, row.project_id, row.trigger, row.facts)
    if payload is None:
        return
    cipher = cipher_of(forge)
    for is_system in (False, True):
        of_kind = [hook for hook in hooks if (hook.project_id is None) == is_system]
        if not of_kind:
            continue
        shown = payload | {"commits": []} if is_system and "commits" in payload else payload
        body = orjson.dumps(shown)
        if len(body) > LONGEST_PAYLOAD_BYTES:
            log.error(
                "event %s of webhooks (%s) is %d bytes long: not told", row.uuid, row.trigger, len(body)
            )
            continue
        sealed = cipher.encrypt(body.decode())
        values = [_delivery(row, hook, sealed) for hook in of_kind]
        await db.execute(insert(WebhookDelivery).on_conflict_do_nothing(), values)


def _delivery(row: WebhookEvent, hook: WebHook, sealed: bytes) -> dict[str, Any]:
    return {"hook_id": hook.id, "event_uuid": row.uuid, "trigger": row.trigger, "payload": sealed}


async def _wanting(db: AsyncSession, row: WebhookEvent) -> list[WebHook]:
    """The hooks that are to be called, those of the instance among them."""
    statement = select(WebHook)
    if row.trigger == SYSTEM:
        statement = statement.where(WebHook.project_id.is_(None))
    else:
        of_it = (WebHook.project_id == row.project_id) | WebHook.project_id.is_(None)
        statement = statement.where(of_it, WebHook.events.any_() == FLAG_OF[row.trigger])
    found = [hook for hook in await db.scalars(statement.order_by(WebHook.id)) if not is_disabled(hook)]
    if row.trigger == "push_hooks":
        branch = str(row.facts["ref"]).removeprefix("refs/heads/")
        found = [hook for hook in found if filters.wants_branch(hook, branch)]
    return [hook for hook in found if not await _is_full(db, hook)]


async def _is_full(db: AsyncSession, hook: WebHook) -> bool:
    waiting = await db.scalar(select(func.count()).where(WebhookDelivery.hook_id == hook.id)) or 0
    if waiting >= MOST_WAITING:
        log.warning("webhook %d has %d deliveries waiting: an event is not told to it", hook.id, waiting)
    return waiting >= MOST_WAITING
