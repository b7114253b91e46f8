"""Finding memberships. Those that have expired are not found.

Source: gitlabhq app/finders/{members,group_members}_finder.rb, lib/api/helpers/members_helpers.rb.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from nautilus_forge.db.models import Member, Namespace, User
from nautilus_forge.errors import NotFound
from nautilus_forge.groups.resource import Resource
from nautilus_forge.namespaces.level import is_alive
from nautilus_forge.policy import Level
from nautilus_forge.projects.shares import memberships_by_shares

Rows = Select[Member, User, User, int]
"""A membership, whose it is, who made it (or None), and the level that it gives here."""


@dataclass(frozen=True)
class Found:
    """`level`: in the project or group that was asked about; of a member by a share at most the share's."""

    member: Member
    user: User
    creator: User | None
    level: int


def _is_direct(source: Resource) -> ColumnElement[bool]:
    if source.kind == "project":
        return Member.project_id == source.id
    return Member.namespace_id == source.id


def direct(source: Resource) -> Rows:
    level: ColumnElement[int] = Member.access_level.expression
    return _with_people(
        select(Member.id, level.label("level")).where(_is_direct(source), is_alive()).subquery()
    )


def with_inherited(source: Resource) -> Rows:
    """Each user once, with his highest level in it or above it, or by a group that the project is shared with.

    Of equal ones the nearest.
    """
    level: ColumnElement[int] = Member.access_level.expression
    nearness = func.coalesce(
        func.array_position(source.namespace.traversal_ids, Member.namespace_id), 1 << 20
    )
    found: Any = select(Member.id, Member.user_id, level.label("level"), nearness.label("nearness")).where(
        _is_direct(source) | Member.namespace_id.in_(source.above), is_alive()
    )
    if source.project_id is not None:
        found = found.union_all(memberships_by_shares(source.project_id))
    each = found.subquery()
    order = (each.c.level.desc(), each.c.nearness.desc(), each.c.id)
    rank = func.row_number().over(partition_by=each.c.user_id, order_by=order).label("rank")
    ranked = select(each.c.id, each.c.level, rank).subquery()
    return _with_people(select(ranked.c.id, ranked.c.level).where(ranked.c.rank == 1).subquery())


def _with_people(found: Subquery) -> Rows:
    creator = aliased(User)
    statement: Any = (
        select(Member, User, creator, found.c.level)
        .join(found, found.c.id == Member.id)
        .join(User, User.id == Member.user_id)
        .outerjoin(creator, creator.id == Member.created_by_id)
    )
    rows: Rows = statement
    return rows


async def page(db: AsyncSession, statement: Rows, limit: int, offset: int) -> list[Found]:
    rows = await db.execute(statement.order_by(Member.id).limit(limit).offset(offset))
    return [Found(row[0], row[1], row[2], row[3]) for row in rows.all()]


async def one(db: AsyncSession, statement: Rows, user_id: int) -> Found:
    """Raises `NotFound`."""
    found = await page(db, statement.where(Member.user_id == user_id), 1, 0)
    if not found:
        raise NotFound
    return found[0]


async def highest_above(db: AsyncSession, source: Resource, user_id: int) -> tuple[Level, str] | None:
    """The user's highest level in the groups above, and the name of the group that gives it; None for none."""
    row = (
        await db.execute(
            select(Member.access_level, Namespace.name)
            .join(Namespace, Namespace.id == Member.namespace_id)
            .where(Member.user_id == user_id, Member.namespace_id.in_(source.above), is_alive())
            .order_by(Member.access_level.desc(), func.cardinality(Namespace.traversal_ids).desc())
            .limit(1)
        )
    ).one_or_none()
    return (Level(row[0]), row[1]) if row is not None else None


async def is_last_owner(db: AsyncSession, source: Resource, member: Member) -> bool:
    """Would the group have no owner left without this membership? Bots are none.

    Locks the group, so that two owners who leave at once do not both see the other.

    Source: gitlabhq app/models/group.rb (`last_owner?`, `member_owners_excluding_project_bots`).
    """
    if source.kind != "group" or member.access_level < Level.OWNER:
        return False
    await db.execute(select(Namespace.id).where(Namespace.id == source.id).with_for_update())
    others = (
        select(Member.id)
        .join(User, User.id == Member.user_id)
        .where(
            Member.namespace_id.in_(source.namespace.traversal_ids),
            Member.access_level == Level.OWNER,
            Member.id != member.id,
            User.is_bot.is_(False),
            is_alive(),
        )
    )
    return await db.scalar(others.limit(1)) is None
