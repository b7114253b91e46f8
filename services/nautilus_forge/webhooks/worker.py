"""Sends what is due: wakes when something happened, or when the next delivery's time comes.

Nothing is asked of the database while nothing happens, but once in `_LOOK_EVERY_S`. Many hooks are called at once,
each of them by few calls at a time, so that a slow receiver keeps nobody else waiting.
A delivery that was under way when the forge ended is done again, with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import WebHook, WebhookDelivery, WebHookLog
from nautilus_forge.forge import Forge
from nautilus_forge.variables.cipher import Undecipherable
from nautilus_forge.webhooks.disabling import FAILURES_BEFORE_BACKOFF, is_disabled
from nautilus_forge.webhooks.expanding import expand
from nautilus_forge.webhooks.hook import OpenedHook, opened
from nautilus_forge.webhooks.sending import Call, Outcome, call, note
from nautilus_forge.webhooks.service import cipher_of, rules_of
from nautilus_forge.webhooks.throttle import Throttle

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 60.0
_RETRY_S = 5.0
_AFTER_OUR_FAILURE = timedelta(minutes=1)
_PRUNE_EVERY = timedelta(hours=1)
KEPT_FOR = timedelta(days=7)
"""So long the log of a hook goes back."""

_DUE = text(
    """
    SELECT d.id, d.hook_id, h.recent_failures FROM web_hooks h CROSS JOIN LATERAL (
        SELECT id, hook_id FROM webhook_deliveries
        WHERE hook_id = h.id AND due_at <= now() AND id <> ALL(CAST(:busy AS bigint[])) ORDER BY id LIMIT :per_hook
    ) d
    WHERE h.disabled_until IS NULL OR h.disabled_until < now()
    ORDER BY d.id
    """
)
_NEXT = text(
    """
    SELECT extract(epoch FROM min(greatest(d.due_at, h.disabled_until)) - now())::float
    FROM webhook_deliveries d JOIN web_hooks h ON h.id = d.hook_id
    WHERE d.id <> ALL(CAST(:busy AS bigint[])) AND greatest(d.due_at, h.disabled_until) > now()
    """
)


@dataclass(frozen=True)
class WebhookLimits:
    """One place for all bounds of the sending, changed by tests alone."""

    at_once: int = 32
    per_hook: int = 2
    retries: tuple[timedelta, ...] = (timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=10))
    """How long after a try that failed the next one follows; after the last one the delivery is given up."""
    longest_wait: timedelta = timedelta(days=1)
    """A delivery that could not be made for so long is given up."""


class WebhookWorker:
    """`due`: set to have it look now. `tests`, `resends`: how often people may ask for a call themselves."""

    def __init__(self, forge: Forge, limits: WebhookLimits | None = None) -> None:
        self._forge = forge
        self.limits = limits or WebhookLimits()
        self.due = asyncio.Event()
        self.is_started = False
        self.tests = Throttle()
        self.resends = Throttle()
        self._busy: dict[int, int] = {}
        self._pruned_at = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.due.clear()
            try:
                wait_s = await self.work_off()
            except Exception:
                log.exception("sending webhooks failed; trying again")
                wait_s = _RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self.due.wait()
            except TimeoutError:
                pass

    async def work_off(self) -> float:
        """Starts what is due; seconds until there may be something again."""
        has_more = await expand(self._forge)
        async with self._forge.database.session() as db:
            due = await self._due(db) if len(self._busy) < self.limits.at_once else {}
            if not due:
                await self._prune(db)
            next_s = await db.scalar(_NEXT, {"busy": [*self._busy, *due]})
        for delivery_id, hook_id in due.items():
            self._busy[delivery_id] = hook_id
            self._forge.spawn(self._send(delivery_id), f"webhook {hook_id}")
        if has_more:
            return 0.0
        return min(_LOOK_EVERY_S, max(0.05, next_s)) if next_s is not None else _LOOK_EVERY_S

    async def _due(self, db: AsyncSession) -> dict[int, int]:
        """Deliveries to be started now, with their hooks: one hook after the other, oldest first."""
        values = {"busy": list(self._busy), "per_hook": self.limits.per_hook}
        at_work = Counter(self._busy.values())
        found: dict[int, int] = {}
        for row in await db.execute(_DUE, values):
            most = 1 if row.recent_failures > FAILURES_BEFORE_BACKOFF else self.limits.per_hook
            if at_work[row.hook_id] < most and len(self._busy) + len(found) < self.limits.at_once:
                at_work[row.hook_id] += 1
                found[row.id] = row.hook_id
        return found

    async def _send(self, delivery_id: int) -> None:
        try:
            await self._deliver(delivery_id)
        except Exception:
            log.exception("delivery %d of a webhook failed on our side", delivery_id)
            await self._postpone(delivery_id)
        finally:
            self._busy.pop(delivery_id, None)
            self.due.set()

    async def _postpone(self, delivery_id: int) -> None:
        """What went wrong on our side may go on doing so: not at once again, and not for ever."""
        async with self._forge.database.unit_of_work() as db:
            delivery = await db.get(WebhookDelivery, delivery_id)
            if delivery is not None and delivery.failures < len(self.limits.retries):
                delivery.due_at = datetime.now(UTC) + _AFTER_OUR_FAILURE
                delivery.failures += 1
            elif delivery is not None:
                await db.delete(delivery)

    async def _deliver(self, delivery_id: int) -> None:
        forge, cipher = self._forge, cipher_of(self._forge)
        async with forge.database.unit_of_work() as db:
            delivery = await db.get(WebhookDelivery, delivery_id)
            hook = await db.get(WebHook, delivery.hook_id) if delivery is not None else None
            if delivery is None or hook is None:
                return
            try:
                secrets = opened(cipher, hook)
                payload = cipher.decrypt(delivery.payload).encode()
            except Undecipherable as error:
                log.error("webhook %d: %s; its delivery is given up", hook.id, error)
                await db.delete(delivery)
                return
            rules = await rules_of(db, forge, hook.project_id)
            wanted = Call(
                delivery.trigger,
                payload,
                delivery.event_uuid,
                delivery.webhook_uuid,
                delivery.idempotency_key,
            )
        done = await call(forge, hook, secrets, rules, wanted)
        await self._settle(delivery_id, hook.id, secrets, done)

    async def _settle(self, delivery_id: int, hook_id: int, secrets: OpenedHook, done: Outcome) -> None:
        async with self._forge.database.unit_of_work() as db:
            hook = await db.get(WebHook, hook_id, with_for_update=True)
            delivery = await db.get(WebhookDelivery, delivery_id)
            if hook is None or delivery is None:
                return
            await note(db, self._forge, cipher_of(self._forge), hook, secrets, done)
            if is_disabled(hook):
                log.warning(
                    "webhook %d is disabled: it failed %d times in a row", hook_id, hook.recent_failures
                )
                await db.execute(delete(WebhookDelivery).where(WebhookDelivery.hook_id == hook_id))
            elif done.is_taken or not self._is_tried_again(delivery, done):
                await db.delete(delivery)
            else:
                delivery.due_at = datetime.now(UTC) + self.limits.retries[delivery.failures]
                delivery.failures += 1

    def _is_tried_again(self, delivery: WebhookDelivery, done: Outcome) -> bool:
        is_young = datetime.now(UTC) - delivery.created_at < self.limits.longest_wait
        return done.is_worth_another_try and is_young and delivery.failures < len(self.limits.retries)

    async def _prune(self, db: AsyncSession) -> None:
        """Old entries of the logs, old deliveries of hooks that rest."""
        now = datetime.now(UTC)
        if now - self._pruned_at < _PRUNE_EVERY:
            return
        self._pruned_at = now
        await db.execute(delete(WebHookLog).where(WebHookLog.created_at < func.now() - KEPT_FOR))
        too_old = WebhookDelivery.created_at < func.now() - 2 * self.limits.longest_wait
        await db.execute(delete(WebhookDelivery).where(too_old))
        await db.commit()


__all__ = ["KEPT_FOR", "WebhookLimits", "WebhookWorker"]
