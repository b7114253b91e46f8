"""Making and changing hooks.

Source: gitlabhq app/models/concerns/web_hooks/hook.rb, app/services/web_hooks/create_service.rb,
app/validators/json_schemas/web_hooks_{url_variables,custom_headers}.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import WebHook
from nautilus_forge.errors import BadRequest, Unprocessable
from nautilus_forge.forge import Forge
from nautilus_forge.outbound.errors import UrlBlocked
from nautilus_forge.outbound.rules import OutboundRules, rules_for
from nautilus_forge.outbound.target import approve
from nautilus_forge.variables.cipher import Cipher
from nautilus_forge.webhooks import filters
from nautilus_forge.webhooks.hook import OpenedHook, interpolated, missing, opened, sealed
from nautilus_forge.webhooks.params import HookAttributes, KeyValue
from nautilus_forge.webhooks.triggers import (
    DEFAULT_OF_PROJECT,
    DEFAULT_OF_SYSTEM,
    PROJECT_TRIGGERS,
    SYSTEM_TRIGGERS,
)

MOST_VALUES = 20
_LONGEST_VALUE = 2048
_LONGEST_TEMPLATE = 4096
_VARIABLE_NAME = re.compile(r"[A-Za-z]+[0-9]*(?:[._-][A-Za-z0-9]+)*")
_HEADER_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:[._-][A-Za-z0-9]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def cipher_of(forge: Forge) -> Cipher:
    """Hooks are encrypted as CI variables are."""
    return forge.ci.cipher


async def rules_of(db: AsyncSession, forge: Forge, project_id: int | None) -> OutboundRules:
    """Where a hook may be; another switch decides about local addresses for those of the instance."""
    values = await current_values(db)
    allow_local = values.allow_local_requests_from_system_hooks if project_id is None else None
    return rules_for(forge.settings, values, allow_local=allow_local)


async def create(
    db: AsyncSession, forge: Forge, project_id: int | None, url: str, attributes: HookAttributes
) -> WebHook:
    """Raises `Unprocessable` for what no hook may have."""
    hook = WebHook(
        project_id=project_id,
        url=b"",
        events=list(DEFAULT_OF_SYSTEM if project_id is None else DEFAULT_OF_PROJECT),
        enable_ssl_verification=True,
        branch_filter_strategy="wildcard",
        recent_failures=0,
    )
    await _apply(db, forge, hook, OpenedHook("", None, {}, {}), url, attributes)
    db.add(hook)
    await db.flush()
    await db.refresh(hook)
    return hook


async def change(
    db: AsyncSession, forge: Forge, hook: WebHook, url: str | None, attributes: HookAttributes
) -> None:
    """Only what was given. Raises `BadRequest` (nothing was), `Unprocessable`."""
    if not attributes.model_fields_set:
        raise BadRequest(body={"error": "No parameters provided"})
    was = opened(cipher_of(forge), hook)
    await _apply(db, forge, hook, was, was.url if url is None else url, attributes)
    await db.flush()


async def set_values(
    db: AsyncSession,
    forge: Forge,
    hook: WebHook,
    *,
    url_variables: Mapping[str, str] | None = None,
    custom_headers: Mapping[str, str] | None = None,
) -> None:
    """Exactly these. Raises `Unprocessable`."""
    was = opened(cipher_of(forge), hook)
    now = OpenedHook(
        was.url,
        was.token,
        was.url_variables if url_variables is None else url_variables,
        was.custom_headers if custom_headers is None else custom_headers,
    )
    if now.full_url != was.full_url and custom_headers is None:
        now = OpenedHook(now.url, now.token, now.url_variables, {})
    await _check(db, forge, hook.project_id, now)
    _store(cipher_of(forge), hook, now)
    await db.flush()


async def _apply(
    db: AsyncSession, forge: Forge, hook: WebHook, was: OpenedHook, url: str, attributes: HookAttributes
) -> None:
    now = _changed(was, url.strip(), attributes)
    for name in ("name", "description", "custom_webhook_template"):
        if name in attributes.model_fields_set:
            setattr(hook, name, getattr(attributes, name))
    if attributes.enable_ssl_verification is not None:
        hook.enable_ssl_verification = attributes.enable_ssl_verification
    if attributes.branch_filter_strategy is not None:
        hook.branch_filter_strategy = attributes.branch_filter_strategy
    if "push_events_branch_filter" in attributes.model_fields_set:
        hook.push_events_branch_filter = attributes.push_events_branch_filter
    if hook.branch_filter_strategy == "all_branches":
        hook.push_events_branch_filter = None
    hook.events = _events(hook, attributes)
    if not filters.is_valid(hook.branch_filter_strategy, hook.push_events_branch_filter):
        raise Unprocessable(body={"error": "Invalid branch filter given"})
    if len(hook.custom_webhook_template or "") > _LONGEST_TEMPLATE:
        too_long = f"is too long (maximum is {_LONGEST_TEMPLATE} characters)"
        raise Unprocessable(body={"message": {"custom_webhook_template": [too_long]}})
    await _check(db, forge, hook.project_id, now)
    _store(cipher_of(forge), hook, now)


def _changed(was: OpenedHook, url: str, attributes: HookAttributes) -> OpenedHook:
    """Secrets do not follow to another place: without new ones they go where the URL changes."""
    given = attributes.model_fields_set
    is_moved = url != was.url
    token = attributes.token if "token" in given else None if is_moved else was.token
    added = _mapping(attributes.url_variables)
    kept = was.url_variables
    if is_moved and any(added.get(name, value) == value for name, value in kept.items()):
        kept = {}
    variables = {**kept, **added}
    headers = dict(was.custom_headers)
    if interpolated(url, variables) != was.full_url:
        headers = {}
    return OpenedHook(url, token or None, variables, {**headers, **_mapping(attributes.custom_headers)})


def _mapping(pairs: Iterable[KeyValue] | None) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs or ()}


def _events(hook: WebHook, attributes: HookAttributes) -> list[str]:
    known = SYSTEM_TRIGGERS if hook.project_id is None else PROJECT_TRIGGERS
    wanted = set(hook.events)
    for flag in known:
        given = getattr(attributes, flag, None)
        if given is not None:
            wanted = wanted | {flag} if given else wanted - {flag}
    return [flag for flag in known if flag in wanted]


async def _check(db: AsyncSession, forge: Forge, project_id: int | None, now: OpenedHook) -> None:
    if not _are_values(now.url_variables, _VARIABLE_NAME):
        raise Unprocessable(body={"error": "Illegal key or value"})
    if not _are_values(now.custom_headers, _HEADER_NAME):
        raise Unprocessable(body={"error": "Custom headers validation failed"})
    if now.token is not None and _CONTROL.search(now.token):
        raise Unprocessable(body={"message": {"token": ["is invalid"]}})
    try:
        if missing(now.url, now.url_variables):
            raise UrlBlocked("Invalid URL template")
        await approve(now.full_url, await rules_of(db, forge, project_id))
    except UrlBlocked as error:
        raise Unprocessable(body={"error": "Invalid url given"}) from error


def _are_values(values: Mapping[str, str], names: re.Pattern[str]) -> bool:
    return len(values) <= MOST_VALUES and all(
        names.fullmatch(name)
        and len(name) <= 255
        and 0 < len(value) <= _LONGEST_VALUE
        and not _CONTROL.search(value)
        for name, value in values.items()
    )


def _store(cipher: Cipher, hook: WebHook, now: OpenedHook) -> None:
    hook.url = cipher.encrypt(now.url)
    hook.token = cipher.encrypt(now.token) if now.token is not None else None
    hook.url_variables = sealed(cipher, now.url_variables)
    hook.custom_headers = sealed(cipher, now.custom_headers)
