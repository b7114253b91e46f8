"""A user's access level in a namespace: the highest of all memberships in it and in the groups above it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, Namespace, User
from nautilus_forge.policy import Level


async def own_or(db: AsyncSession, user: User, namespace_id: int | None) -> Namespace | None:
    """The namespace of this id, the user's own for None; None where there is none."""
    statement = select(Namespace).where(Namespace.deleted_at.is_(None))
    if namespace_id is not None:
        return await db.scalar(statement.where(Namespace.id == namespace_id))
    return await db.scalar(statement.where(Namespace.owner_id == user.id))


async def of(db: AsyncSession, user: User, namespace: Namespace) -> Level:
    """Administrator, owner, or the highest membership in it or in a group above it."""
    if user.is_admin:
        return Level.ADMIN
    if namespace.owner_id == user.id:
        return Level.OWNER
    highest = await db.scalar(
        select(func.max(Member.access_level)).where(
            counts(user), Member.namespace_id.in_(namespace.traversal_ids)
        )
    )
    return Level(highest or Level.NONE)


def counts(user: User) -> ColumnElement[bool]:
    """Memberships of the user's that have not expired."""
    return and_(Member.user_id == user.id, is_alive())


def is_alive() -> ColumnElement[bool]:
    """From its expiry day on a membership counts for nothing."""
    return Member.expires_at.is_(None) | (Member.expires_at > datetime.now(UTC).date())


def belongs_to(user: User, at_least: int) -> ColumnElement[bool]:
    """Is the user a member of the namespace, or of a group above it?"""
    joined = select(Member.namespace_id).where(
        counts(user), Member.access_level >= at_least, Member.namespace_id.is_not(None)
    )
    inside: ColumnElement[bool] = Namespace.traversal_ids.overlap(func.array(joined.scalar_subquery()))
    return inside
