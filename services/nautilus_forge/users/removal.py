"""Removing an account with everything that is his."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from nautilus_forge.db.models import Member, Namespace, Project, ResourceBot, User
from nautilus_forge.errors import Conflict
from nautilus_forge.forge import Forge
from nautilus_forge.groups.removal import remove_group
from nautilus_forge.policy import Level
from nautilus_forge.projects.removal import finish_removal, mark_deleted
from nautilus_forge.users.service import set_state


async def remove_user(db: AsyncSession, forge: Forge, user: User, *, hard: bool) -> None:
    """Projects, tokens, sessions and memberships go too; with `hard` the groups that he alone owns.

    Commits in between. Raises `Conflict` for the last administrator, and without `hard` for an only owner.
    """
    if user.is_admin:
        others = select(func.count()).select_from(User).where(User.is_admin, User.id != user.id)
        if not await db.scalar(others):
            raise Conflict("The last administrator can not be deleted")
    alone = await _owned_by_him_alone(db, user)
    if alone and not hard:
        raise Conflict("User cannot be removed while is the sole-owner of a group")
    await set_state(db, user, "blocked")
    for group in alone:
        await remove_group(db, forge, group)
    projects = (
        select(Project)
        .join(Namespace, Namespace.id == Project.namespace_id)
        .where(Namespace.owner_id == user.id)
    )
    owned = (await db.scalars(projects)).unique().all()
    for project in owned:
        if project.deleted_at is None:
            await mark_deleted(db, project)
    ids = [project.id for project in owned]
    db.expunge_all()
    await db.commit()
    await finish_removal(forge, ids)
    gone = await db.get(User, user.id)
    if gone is not None:
        await db.delete(gone)
        await db.flush()


async def _owned_by_him_alone(db: AsyncSession, user: User) -> Sequence[Namespace]:
    """Groups that have no other owner, of their own or from above."""
    other = aliased(Member)
    others = exists().where(
        other.namespace_id == func.any(Namespace.traversal_ids),
        other.access_level == Level.OWNER,
        other.user_id != user.id,
        ~exists().where(ResourceBot.user_id == other.user_id),
    )
    owned = (
        select(Namespace)
        .join(Member, Member.namespace_id == Namespace.id)
        .where(
            Member.user_id == user.id,
            Member.access_level == Level.OWNER,
            Namespace.deleted_at.is_(None),
            ~others,
        )
    )
    return (await db.scalars(owned)).all()
