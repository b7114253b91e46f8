"""The tokens of projects and groups, and the bots that they belong to.

A bot is a user of its own, a member of exactly one project or group at the token's level. It has no password
and no namespace. It goes with the project or group, and 30 days after its last token stopped to work.

Source: gitlabhq app/services/resource_access_tokens/{create,revoke}_service.rb,
app/services/{project,group}_access_tokens/rotate_service.rb.
"""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, PersonalAccessToken, ResourceBot, User
from nautilus_forge.errors import BadRequest
from nautilus_forge.groups.resource import Resource
from nautilus_forge.policy import Ability, GroupAbility, Level
from nautilus_forge.settings import Settings
from nautilus_forge.tokens import service

KEPT_FOR = timedelta(days=30)
"""So long a token that does not work any more is still listed."""

_BEYOND = "Access level of the token contains permissions not held by the creating user"


def may_manage(at: Resource) -> bool:
    """Bots manage no tokens. Source: app/policies/group_policy.rb (`project_bot_access`)."""
    return at.can(Ability.ADMIN_PROJECT, GroupAbility.ADMIN_TOKEN)


def may_create(at: Resource) -> bool:
    return may_manage(at) and not at.user.is_bot


def tokens_of(at: Resource) -> Select[PersonalAccessToken]:
    column: Any = ResourceBot.project_id if at.kind == "project" else ResourceBot.namespace_id
    bots = select(ResourceBot.user_id).where(column == at.id)
    return select(PersonalAccessToken).where(
        PersonalAccessToken.user_id.in_(bots), PersonalAccessToken.is_impersonation.is_(False)
    )


async def create(
    db: AsyncSession,
    settings: Settings,
    at: Resource,
    *,
    name: str,
    scopes: list[str],
    level: int,
    expires_at: date | None,
    description: str | None,
) -> tuple[PersonalAccessToken, str]:
    """A bot with its token, and the token's secret, which is not kept. Raises `BadRequest`."""
    if not may_create(at):
        raise BadRequest(f"User does not have permission to create {at.kind} access token")
    if level > min(at.level, Level.OWNER):
        raise BadRequest(_BEYOND)
    bot = await _make_bot(db, settings, at, name, level)
    return await service.create_token(
        db, bot, name=name, scopes=scopes, expires_at=expires_at, description=description
    )


async def _make_bot(db: AsyncSession, settings: Settings, at: Resource, name: str, level: int) -> User:
    username = f"{at.kind}_{at.id}_bot_{secrets.token_hex(16)}"
    bot = User(
        username=username,
        name=name,
        email=f"{username}@noreply.{urlsplit(settings.external_url).hostname}",
        is_bot=True,
        is_external=at.user.is_external,
        can_create_group=False,
        projects_limit=0,
        confirmed_at=datetime.now(UTC),
        created_by_id=at.user.id,
    )
    db.add(bot)
    await db.flush()
    db.add(ResourceBot(user_id=bot.id, project_id=at.project_id, namespace_id=at.namespace_id))
    db.add(
        Member(
            user_id=bot.id,
            project_id=at.project_id,
            namespace_id=at.namespace_id,
            access_level=level,
            created_by_id=at.user.id,
        )
    )
    await db.flush()
    return bot


async def rotate(
    db: AsyncSession, at: Resource, token: PersonalAccessToken, expires_at: date | None
) -> tuple[PersonalAccessToken, str]:
    """Raises `BadRequest` for a token that was revoked, and for one with a higher level than one's own."""
    levels = await levels_of(db, at, [token.user_id])
    if levels.get(token.user_id, Level.OWNER) > at.level:
        raise BadRequest("Not eligible to rotate tokens with permissions not held by the user")
    return await service.rotate(db, token, expires_at)


async def levels_of(db: AsyncSession, at: Resource, bot_ids: list[int]) -> dict[int, int]:
    """The bots' access levels, by their ids."""
    column: Any = Member.project_id if at.kind == "project" else Member.namespace_id
    rows = await db.execute(
        select(Member.user_id, Member.access_level).where(column == at.id, Member.user_id.in_(bot_ids))
    )
    return {row.user_id: row.access_level for row in rows}


def entity(at: Resource, token: PersonalAccessToken, level: int | None) -> dict[str, Any]:
    """Source: lib/api/entities/resource_access_token.rb."""
    return service.entity(token) | {
        "access_level": level,
        "resource_type": at.kind,
        "resource_id": at.id,
    }


async def sweep(db: AsyncSession) -> int:
    """Delete the bots all of whose tokens stopped to work 30 days ago; how many there were."""
    limit = datetime.now(UTC) - KEPT_FOR
    token = PersonalAccessToken
    needed = exists().where(
        token.user_id == ResourceBot.user_id,
        func.coalesce(token.revoked_at, func.now()) > limit,
        func.coalesce(token.expires_at, func.current_date()) > limit.date(),
    )
    doomed = select(ResourceBot.user_id).where(~needed)
    gone = await db.scalars(
        delete(User)
        .where(User.id.in_(doomed), User.created_at < limit)
        .returning(User.id)
        .execution_options(synchronize_session=False)
    )
    return len(gone.all())
