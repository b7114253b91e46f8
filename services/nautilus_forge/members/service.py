"""The rules of memberships.

Source: gitlabhq app/services/members/{create,update,destroy}_service.rb, app/models/member.rb (validations),
app/policies/{group,project}_member_policy.rb.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, Namespace, Project, ResourceBot, User
from nautilus_forge.errors import Conflict, Forbidden, InvalidRecord
from nautilus_forge.groups.resource import Resource
from nautilus_forge.members import queries
from nautilus_forge.members.queries import Found
from nautilus_forge.namespaces.level import is_alive
from nautilus_forge.policy import Ability, GroupAbility, Level

_LEVEL_NAMES = {
    Level.MINIMAL: "Minimal Access",
    Level.GUEST: "Guest",
    Level.PLANNER: "Planner",
    Level.REPORTER: "Reporter",
    Level.DEVELOPER: "Developer",
    Level.MAINTAINER: "Maintainer",
    Level.OWNER: "Owner",
}


async def add(db: AsyncSession, source: Resource, user: User, level: int, expires_at: date | None) -> Found:
    """Nobody gives more than he has. Raises `Conflict`, `Forbidden`, `InvalidRecord`."""
    existing = queries.direct(source).where(Member.user_id == user.id)
    if (await db.execute(existing)).first() is not None:
        raise Conflict("Member already exists")
    _require_grantable(source, level)
    await _refuse_foreign_bot(db, source, user)
    await _validate(db, source, user.id, level, expires_at)
    await _drop_expired(db, source, user.id)
    member = Member(
        user_id=user.id,
        project_id=source.project_id,
        namespace_id=source.namespace_id,
        access_level=level,
        expires_at=expires_at,
        created_by_id=source.user.id,
    )
    db.add(member)
    await db.flush()
    await db.refresh(member)
    return Found(member, user, source.user, level)


async def _drop_expired(db: AsyncSession, source: Resource, user_id: int) -> None:
    """An expired membership that has not been swept yet would be in the way."""
    await db.execute(
        delete(Member).where(
            Member.user_id == user_id,
            Member.project_id.is_not_distinct_from(source.project_id),
            Member.namespace_id.is_not_distinct_from(source.namespace_id),
            ~is_alive(),
        )
    )


async def _refuse_foreign_bot(db: AsyncSession, source: Resource, user: User) -> None:
    """The bot of a project or group belongs to it alone."""
    bot = await db.get(ResourceBot, user.id)
    if bot is not None and (bot.project_id, bot.namespace_id) != (source.project_id, source.namespace_id):
        raise InvalidRecord({"user": ["project bots cannot be added to other groups / projects"]})


async def change(
    db: AsyncSession, source: Resource, member: Member, user: User, level: int, given: dict[str, Any]
) -> None:
    """`given`: may hold `expires_at`. Raises `Forbidden`, `InvalidRecord`."""
    _refuse_fixed(source, user)
    _require_grantable(source, max(level, member.access_level))
    if level != member.access_level and await queries.is_last_owner(db, source, member):
        raise Forbidden
    await _validate(db, source, user.id, level, given.get("expires_at"))
    member.access_level = level
    if "expires_at" in given:
        member.expires_at = given["expires_at"]
    await db.flush()


async def remove(
    db: AsyncSession, source: Resource, member: Member, user: User, *, skip_subresources: bool
) -> None:
    """Everybody may leave; others are removed by whoever may add them, up to his own level. Raises `Forbidden`.

    Of a group: unless `skip_subresources` the user's memberships in all that is below end too.
    """
    _refuse_fixed(source, user)
    if source.user.id != user.id:
        source.require(Ability.ADMIN_MEMBER, GroupAbility.ADMIN_MEMBER)
        _require_grantable(source, member.access_level)
    if await queries.is_last_owner(db, source, member):
        raise Forbidden
    await db.delete(member)
    if source.kind == "group" and not skip_subresources:
        inside = select(Namespace.id).where(Namespace.traversal_ids.contains([source.id]))
        projects = select(Project.id).where(Project.namespace_id.in_(inside))
        below = Member.namespace_id.in_(inside) | Member.project_id.in_(projects)
        await db.execute(delete(Member).where(Member.user_id == user.id, below))
    await db.flush()


def _refuse_fixed(source: Resource, user: User) -> None:
    """The holder of a personal namespace, and bots, stay as they are."""
    if user.is_bot or source.namespace.owner_id == user.id:
        raise Forbidden


def _require_grantable(source: Resource, level: int) -> None:
    if level > min(source.level, Level.OWNER):
        raise Forbidden


async def _validate(
    db: AsyncSession, source: Resource, user_id: int, level: int, expires_at: date | None
) -> None:
    problems: dict[str, list[str]] = {}
    inherited = await queries.highest_above(db, source, user_id)
    if inherited is not None and inherited[0] > level:
        name = _LEVEL_NAMES[inherited[0]]
        problems["access_level"] = [
            f"should be greater than or equal to {name} inherited membership from group {inherited[1]}"
        ]
    if expires_at is not None and expires_at < datetime.now(UTC).date():
        problems["expires_at"] = ["cannot be a date in the past"]
    if problems:
        raise InvalidRecord(problems)
