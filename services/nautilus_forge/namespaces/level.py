"""A user's access level in a namespace."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, Namespace, User
from nautilus_forge.policy import Level


async def own_or(db: AsyncSession, user: User, namespace_id: int | None) -> Namespace | None:
    """The namespace of this id, the user's own for None; None where there is none."""
    if namespace_id is not None:
        return await db.get(Namespace, namespace_id)
    return await db.scalar(select(Namespace).where(Namespace.owner_id == user.id))


async def of(db: AsyncSession, user: User, namespace: Namespace) -> Level:
    """Administrator, owner, or the highest membership in it or in a group above it."""
    if user.is_admin:
        return Level.ADMIN
    if namespace.owner_id == user.id:
        return Level.OWNER
    today = datetime.now(UTC).date()
    highest = await db.scalar(
        select(func.max(Member.access_level)).where(
            Member.user_id == user.id,
            Member.namespace_id.in_(await at_and_above(db, namespace)),
            Member.expires_at.is_(None) | (Member.expires_at > today),
        )
    )
    return Level(highest or Level.NONE)


async def at_and_above(db: AsyncSession, namespace: Namespace) -> list[int]:
    """Ids of the namespace and its parents, nearest first."""
    if namespace.parent_id is None:
        return [namespace.id]
    chain = select(Namespace.id, Namespace.parent_id).where(Namespace.id == namespace.id).cte(recursive=True)
    parents = select(Namespace.id, Namespace.parent_id).where(Namespace.id == chain.c.parent_id)
    chain = chain.union_all(parents)
    return list((await db.scalars(select(chain.c.id))).all())
