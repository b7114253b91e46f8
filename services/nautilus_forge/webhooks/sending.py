"""One call of a hook: the request, the answer, the entry in its log.

Source: gitlabhq app/services/web_hook_service.rb, app/services/web_hooks/log_execution_service.rb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge import VERSION
from nautilus_forge.db.models import WebHook, WebHookLog
from nautilus_forge.errors import ForgeError
from nautilus_forge.forge import Forge
from nautilus_forge.outbound.errors import OutboundFailed, UrlBlocked
from nautilus_forge.outbound.http import Answer, send
from nautilus_forge.outbound.rules import OutboundRules
from nautilus_forge.outbound.target import approve
from nautilus_forge.variables.cipher import Cipher
from nautilus_forge.webhooks.disabling import note_failure, note_success
from nautilus_forge.webhooks.hook import OpenedHook
from nautilus_forge.webhooks.triggers import event_header

TIMEOUT_S = 10.0
INTERNAL_ERROR = "internal error"
_LONGEST_BODY_BYTES = 8 << 10
_MOST_HEADERS = 50
_LONGEST_HEADER_BYTES = 1 << 10
_REDACTED = "[REDACTED]"
_REFERENCE = re.compile(r"\{\{(.+?)\}\}")
_WORTH_ANOTHER_TRY = frozenset({408, 425, 429})


class BadTemplate(ForgeError):
    """What a custom template makes of the payload is no JSON."""


@dataclass(frozen=True)
class Call:
    """What a hook is called with; the three ids are the same in each try."""

    trigger: str
    payload: bytes
    event_uuid: str
    webhook_uuid: str
    idempotency_key: str

    @classmethod
    def new(cls, trigger: str, payload: Mapping[str, Any]) -> Call:
        return cls(trigger, orjson.dumps(payload), str(uuid4()), str(uuid4()), str(uuid4()))


@dataclass(frozen=True)
class Outcome:
    """`status` None: no answer came, `error` says why."""

    call: Call
    status: int | None
    headers: Mapping[str, str]
    body: bytes
    duration_s: float
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """As GitLab counts it: a redirect, which is not followed, is an answer too."""
        return self.status is not None and 200 <= self.status < 400

    @property
    def is_worth_another_try(self) -> bool:
        return self.status is None or self.status >= 500 or self.status in _WORTH_ANOTHER_TRY


async def call(
    forge: Forge, hook: WebHook, secrets: OpenedHook, rules: OutboundRules, wanted: Call
) -> Outcome:
    """Never raises for what the receiver does. No session of the database is held meanwhile."""
    try:
        body = _rendered(hook, wanted)
        target = await approve(secrets.full_url, rules)
        answer = await send(
            "POST",
            target,
            headers=dict(secrets.custom_headers) | headers(forge, hook, secrets, wanted),
            content=body,
            timeout_s=TIMEOUT_S,
            limit_bytes=_LONGEST_BODY_BYTES,
            verify_tls=hook.enable_ssl_verification,
        )
    except (UrlBlocked, OutboundFailed, BadTemplate) as error:
        return Outcome(wanted, None, {}, b"", 0.0, str(error))
    return _outcome(wanted, answer)


def _outcome(wanted: Call, answer: Answer) -> Outcome:
    return Outcome(wanted, answer.status, answer.headers, answer.body, answer.duration_s)


def headers(forge: Forge, hook: WebHook, secrets: OpenedHook, wanted: Call) -> dict[str, str]:
    """GitLab's own; they win over custom ones of the same name."""
    given = {
        "Content-Type": "application/json",
        "User-Agent": f"GitLab/{VERSION}",
        "Idempotency-Key": wanted.idempotency_key,
        "X-Gitlab-Event": event_header(wanted.trigger, is_system=hook.project_id is None),
        "X-Gitlab-Webhook-UUID": wanted.webhook_uuid,
        "X-Gitlab-Instance": forge.settings.external_url,
        "X-Gitlab-Event-UUID": wanted.event_uuid,
    }
    if secrets.token:
        given["X-Gitlab-Token"] = secrets.token
    return given


def _rendered(hook: WebHook, wanted: Call) -> bytes:
    """The payload, or what the hook's template makes of it. Raises `BadTemplate`."""
    if not hook.custom_webhook_template:
        return wanted.payload
    values = orjson.loads(wanted.payload)

    def value(match: re.Match[str]) -> str:
        found = values
        for step in match[1].strip().split("."):
            if isinstance(found, list):
                raise BadTemplate("You may be trying to access an array value, which is not supported.")
            found = found.get(step) if isinstance(found, dict) else None
        shown = orjson.dumps(found).decode()
        return shown[1:-1] if isinstance(found, str) else shown

    text = _REFERENCE.sub(value, hook.custom_webhook_template)
    try:
        orjson.loads(text)
    except ValueError as error:
        raise BadTemplate(f"Error while parsing rendered custom webhook template: {error}") from error
    return text.encode()


async def note(
    db: AsyncSession, forge: Forge, cipher: Cipher, hook: WebHook, secrets: OpenedHook, done: Outcome
) -> WebHookLog:
    """Writes the log's entry and what the hook has learnt of it; the caller commits."""
    if done.is_taken:
        note_success(hook)
    else:
        note_failure(hook)
    entry = WebHookLog(
        hook_id=hook.id,
        url=secrets.shown_url,
        trigger=done.call.trigger,
        request_headers=_redacted(forge, hook, secrets, done.call),
        request_data=cipher.encrypt(done.call.payload.decode()),
        response_headers=_shown_headers(done.headers),
        response_body=_text(done.body, _LONGEST_BODY_BYTES),
        response_status=str(done.status) if done.status is not None else INTERNAL_ERROR,
        internal_error_message=done.error,
        execution_duration=done.duration_s,
    )
    db.add(entry)
    await db.flush()
    return entry


def _redacted(forge: Forge, hook: WebHook, secrets: OpenedHook, wanted: Call) -> dict[str, str]:
    shown = dict.fromkeys(secrets.custom_headers, _REDACTED) | headers(forge, hook, secrets, wanted)
    if "X-Gitlab-Token" in shown:
        shown["X-Gitlab-Token"] = _REDACTED
    return shown


def _shown_headers(received: Mapping[str, str]) -> dict[str, str]:
    first = list(received.items())[:_MOST_HEADERS]
    return {name.title()[:255]: _text(value.encode(), _LONGEST_HEADER_BYTES) for name, value in first}


def _text(value: bytes, limit: int) -> str:
    return value[:limit].decode("utf-8", "ignore").replace("\0", "")
