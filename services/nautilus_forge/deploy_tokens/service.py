"""Making deploy tokens, knowing them again, and what they reach.

Source: gitlabhq app/models/deploy_token.rb, lib/gitlab/auth.rb (`deploy_token_check`).
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import DeployToken, Project
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.policy import Ability, of_deploy_token
from nautilus_forge.responses import timestamp
from nautilus_forge.tokens import secret

SCOPES = (
    "read_repository",
    "read_registry",
    "write_registry",
    "read_package_registry",
    "write_package_registry",
    "read_virtual_registry",
    "write_virtual_registry",
)
_USERNAME = re.compile(r"[a-zA-Z0-9.+_-]+")


async def create(
    db: AsyncSession,
    *,
    project_id: int | None,
    namespace_id: int | None,
    creator_id: int,
    name: str,
    username: str | None,
    scopes: list[str],
    expires_at: datetime | None,
) -> tuple[DeployToken, str]:
    """A new token and its secret, which is not kept. Raises `InvalidRecord`."""
    problems: dict[str, list[str]] = {}
    if len(name) > 255:
        problems["name"] = ["is too long (maximum is 255 characters)"]
    if username is not None:
        if len(username) > 255:
            problems["username"] = ["is too long (maximum is 255 characters)"]
        elif not _USERNAME.fullmatch(username):
            problems["username"] = ["can contain only letters, digits, '_', '-', '+', and '.'"]
    if problems:
        raise InvalidRecord(problems)
    value = secret.generate(secret.DEPLOY_TOKEN)
    token = DeployToken(
        project_id=project_id,
        namespace_id=namespace_id,
        creator_id=creator_id,
        name=name,
        username=username or None,
        digest=secret.digest(value),
        scopes=[scope for scope in SCOPES if scope in scopes],
        expires_at=expires_at,
    )
    db.add(token)
    await db.flush()
    return token, value


async def by_deploy_token(db: AsyncSession, name: str, value: str) -> Principal | None:
    """The principal of an active token whose name goes with it; None for any other."""
    token = await db.scalar(select(DeployToken).where(DeployToken.digest == secret.digest(value)))
    if token is None or token.is_revoked or is_expired(token):
        return None
    if not hmac.compare_digest(username(token).encode(), name.encode("utf-8", "surrogateescape")):
        return None
    return Principal(scopes=frozenset(token.scopes), deploy_token=token)


def username(token: DeployToken) -> str:
    return token.username or f"gitlab+deploy-token-{token.id}"


def is_expired(token: DeployToken) -> bool:
    return token.expires_at is not None and token.expires_at <= datetime.now(UTC)


def is_active() -> ColumnElement[bool]:
    return DeployToken.is_revoked.is_(False) & (
        DeployToken.expires_at.is_(None) | (DeployToken.expires_at > func.now())
    )


def reaches(token: DeployToken, project: Project) -> bool:
    """Its own project, or any in its group and the groups below."""
    return token.project_id == project.id or token.namespace_id in project.namespace.traversal_ids


def abilities(token: DeployToken, project: Project) -> frozenset[Ability]:
    """What it may do with the project beyond what everybody may."""
    return of_deploy_token(token.scopes) if reaches(token, project) else frozenset()


def entity(token: DeployToken) -> dict[str, Any]:
    """Source: lib/api/entities/deploy_token.rb."""
    return {
        "id": token.id,
        "name": token.name,
        "username": username(token),
        "expires_at": timestamp(token.expires_at),
        "scopes": token.scopes,
        "revoked": token.is_revoked,
        "expired": is_expired(token),
    }
