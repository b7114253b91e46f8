"""Finding memberships. Those that have expired are not found.

Source: gitlabhq app/finders/{members,group_members}_finder.rb, lib/api/helpers/members_helpers.rb.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from nautilus_forge.db.models import Member, Namespace, User
from nautilus_forge.errors import NotFound
from nautilus_forge.groups.resource import Resource
from nautilus_forge.namespaces.level import is_alive
from nautilus_forge.policy import Level

Rows = Select[Member, User, User]
"""A membership, whose it is, and who made it (or None)."""


def _rows(condition: ColumnElement[bool]) -> Rows:
    creator = aliased(User)
    statement: Any = (
        select(Member, User, creator)
        .join(User, User.id == Member.user_id)
        .outerjoin(creator, creator.id == Member.created_by_id)
        .where(condition, is_alive())
    )
    rows: Rows = statement
    return rows


def _is_direct(source: Resource) -> ColumnElement[bool]:
    if source.kind == "project":
        return Member.project_id == source.id
    return Member.namespace_id == source.id


def direct(source: Resource) -> Rows:
    return _rows(_is_direct(source))


def with_inherited(source: Resource) -> Rows:
    """Each user once, with his highest level in it or above it; of equal ones the nearest."""
    nearness = func.coalesce(
        func.array_position(source.namespace.traversal_ids, Member.namespace_id), 1 << 20
    )
    ranked = (
        select(
            Member.id,
            func.row_number()
            .over(partition_by=Member.user_id, order_by=(Member.access_level.desc(), nearness.desc()))
            .label("rank"),
        )
        .where(_is_direct(source) | Member.namespace_id.in_(source.above), is_alive())
        .subquery()
    )
    return _rows(Member.id.in_(select(ranked.c.id).where(ranked.c.rank == 1)))


async def one(db: AsyncSession, statement: Rows, user_id: int) -> tuple[Member, User, User | None]:
    """Raises `NotFound`."""
    row = (await db.execute(statement.where(Member.user_id == user_id))).one_or_none()
    if row is None:
        raise NotFound
    return row[0], row[1], row[2]


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

    Source: gitlabhq app/models/group.rb (`last_owner?`, `member_owners_excluding_project_bots`).
    """
    if source.kind != "group" or member.access_level < Level.OWNER:
        return False
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
