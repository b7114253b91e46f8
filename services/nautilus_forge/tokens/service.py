"""Making and finding personal access tokens.

Source: doc/api/personal_access_tokens.md, gitlabhq app/models/personal_access_token.rb.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import RevokedToken, identify
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import PersonalAccessToken, User
from nautilus_forge.errors import BadRequest, InvalidParams
from nautilus_forge.responses import day, timestamp
from nautilus_forge.tokens import secret

SCOPES = (
    "api",
    "read_api",
    "read_user",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "self_rotate",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "ai_features",
)
"""Of personal access tokens. Source: lib/gitlab/auth.rb (`available_scopes_for`)."""
BOT_SCOPES = (
    "api",
    "read_api",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "self_rotate",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "read_observability",
    "write_observability",
    "ai_features",
)
"""Of the tokens of projects and groups. Source: lib/gitlab/auth.rb (`resource_bot_scopes`)."""
ADMIN_SCOPES = ("sudo", "admin_mode", "read_service_ping")
DEFAULT_LIFETIME = timedelta(days=365)
LONGEST_LIFETIME = timedelta(days=400)


def require_scopes(scopes: list[str], user: User) -> list[str]:
    """Raises `InvalidParams` for none, for unknown ones, and for an administrator's on anybody else's token."""
    allowed = BOT_SCOPES if user.is_bot else SCOPES + (ADMIN_SCOPES if user.is_admin else ())
    if not scopes or any(scope not in allowed for scope in scopes):
        raise InvalidParams("scopes does not have a valid value")
    return list(dict.fromkeys(scopes))


def expiry(wanted: date | None, today: date, *, is_required: bool = True) -> date | None:
    """A year from today where nothing is wanted; None where none `is_required`.

    Raises `BadRequest` for the past and beyond 400 days.
    """
    if wanted is None:
        return today + DEFAULT_LIFETIME if is_required else None
    if wanted < today:
        raise BadRequest(message="Expiration date can't be in the past")
    latest = today + LONGEST_LIFETIME
    if wanted > latest:
        raise BadRequest(message=f"Expiration date must be before {latest.isoformat()}")
    return wanted


async def create_token(
    db: AsyncSession,
    user: User,
    *,
    name: str,
    scopes: list[str],
    expires_at: date | None,
    description: str | None = None,
    is_impersonation: bool = False,
    previous_id: int | None = None,
) -> tuple[PersonalAccessToken, str]:
    """A new token and its secret, which is not kept. Raises `InvalidParams`, `BadRequest`."""
    settings = await current_values(db)
    value = secret.generate(settings.personal_access_token_prefix or "")
    today = datetime.now(UTC).date()
    token = PersonalAccessToken(
        user_id=user.id,
        name=name,
        description=description,
        digest=secret.digest(value),
        scopes=require_scopes(scopes, user),
        is_impersonation=is_impersonation,
        expires_at=expiry(expires_at, today, is_required=settings.require_personal_access_token_expiry),
        previous_id=previous_id,
    )
    db.add(token)
    await db.flush()
    await db.refresh(token)
    return token, value


async def rotate(
    db: AsyncSession, token: PersonalAccessToken, expires_at: date | None
) -> tuple[PersonalAccessToken, str]:
    """Revoke the token and make its successor (a week's life unless said otherwise).

    Raises `BadRequest` for one that was revoked: somebody else may have rotated it, so its successors are
    revoked too (committed at once).
    """
    await db.refresh(token, ["is_revoked"], with_for_update=True)
    if token.is_revoked:
        await revoke_family(db, token)
        raise BadRequest("Token already revoked")
    user = await db.get_one(User, token.user_id)
    revoke(token)
    return await create_token(
        db,
        user,
        name=token.name,
        scopes=list(token.scopes),
        expires_at=expires_at or datetime.now(UTC).date() + timedelta(days=7),
        description=token.description,
        is_impersonation=token.is_impersonation,
        previous_id=token.id,
    )


def revoke(token: PersonalAccessToken) -> None:
    """It stops to work at once."""
    if not token.is_revoked:
        token.is_revoked, token.revoked_at = True, datetime.now(UTC)


async def revoke_family(db: AsyncSession, token: PersonalAccessToken) -> None:
    """Revoke what was made from the token by rotation, and commit.

    Source: app/services/personal_access_tokens/revoke_token_family_service.rb.
    """
    family = select(PersonalAccessToken.id).where(PersonalAccessToken.id == token.id).cte(recursive=True)
    family = family.union(
        select(PersonalAccessToken.id).where(PersonalAccessToken.previous_id == family.c.id)
    )
    await db.execute(
        update(PersonalAccessToken)
        .where(PersonalAccessToken.id.in_(select(family.c.id)), PersonalAccessToken.is_revoked.is_(False))
        .values(is_revoked=True, revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )
    await db.commit()


async def noticing_reuse(request: Request, db: Db) -> None:
    """A dependency of self-rotation: a token that was rotated before ends its successors (committed at once).

    Raises what `auth.identify` raises.
    """
    try:
        await identify(request, db)
    except RevokedToken as error:
        await revoke_family(db, error.token)
        raise


def is_active(token: PersonalAccessToken) -> bool:
    expired = token.expires_at is not None and token.expires_at <= datetime.now(UTC).date()
    return not token.is_revoked and not expired


def entity(token: PersonalAccessToken) -> dict[str, Any]:
    """Source: lib/api/entities/personal_access_token.rb."""
    return {
        "id": token.id,
        "name": token.name,
        "revoked": token.is_revoked,
        "created_at": timestamp(token.created_at),
        "description": token.description,
        "scopes": token.scopes,
        "user_id": token.user_id,
        "last_used_at": timestamp(token.last_used_at),
        "active": is_active(token),
        "expires_at": day(token.expires_at),
    }
