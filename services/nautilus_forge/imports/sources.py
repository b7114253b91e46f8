"""The address of an import: may it be used, and does Git answer there?

Source: gitlabhq lib/api/helpers/projects_helpers.rb (`validate_git_import_url!`), app/models/project.rb (`import_url`).
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.errors import Forbidden, InvalidRecord
from nautilus_forge.imports.errors import Unreachable
from nautilus_forge.imports.worker import PORTS
from nautilus_forge.outbound.errors import OutboundFailed, UrlBlocked
from nautilus_forge.outbound.http import send
from nautilus_forge.outbound.rules import OutboundRules, rules_for
from nautilus_forge.outbound.target import Target, approve
from nautilus_forge.settings import Settings

_PROBE_TIMEOUT_S = 10.0


async def import_rules(db: AsyncSession, settings: Settings) -> OutboundRules:
    """Raises `Forbidden` where imports from URLs are switched off (`import_sources`)."""
    values = await current_values(db)
    if "git" not in values.import_sources:
        raise Forbidden
    return rules_for(settings, values)


async def reachable(url: str, rules: OutboundRules) -> Target:
    """The checked target of an import, at which a Git server answers. Talks to it: not inside a transaction.

    Raises `InvalidRecord` for an address that the forge does not speak to, `Unreachable`.
    """
    try:
        target = await approve(url, rules, ports=PORTS)
    except UrlBlocked as refusal:
        raise InvalidRecord({"import_url": [f"is blocked: {refusal.reason}"]}) from refusal
    await _probe(target)
    return target


async def _probe(target: Target) -> None:
    path, question, query = target.rest.partition("?")
    asked = Target(
        target.scheme,
        target.host,
        target.port,
        f"{path.rstrip('/')}/info/refs?service=git-upload-pack{'&' + query if question else ''}",
        target.addresses,
        target.username,
        target.password,
    )
    try:
        answer = await send("GET", asked, timeout_s=_PROBE_TIMEOUT_S, limit_bytes=64)
    except OutboundFailed as failure:
        raise Unreachable from failure
    if answer.status != 200 or not answer.body.startswith(b"001e# service=git-upload-pack"):
        raise Unreachable
