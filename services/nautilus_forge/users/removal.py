"""Removing an account with everything that is his."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace, Project, User
from nautilus_forge.errors import Conflict
from nautilus_forge.forge import Forge
from nautilus_forge.projects.removal import remove_project


async def remove_user(db: AsyncSession, forge: Forge, user: User) -> None:
    """Projects, tokens, sessions and memberships go too. Raises `Conflict` for the last administrator."""
    if user.is_admin:
        others = select(func.count()).select_from(User).where(User.is_admin, User.id != user.id)
        if not await db.scalar(others):
            raise Conflict("The last administrator can not be deleted")
    owned = (
        select(Project)
        .join(Namespace, Namespace.id == Project.namespace_id)
        .where(Namespace.owner_id == user.id)
    )
    for project in (await db.scalars(owned)).unique().all():
        await remove_project(db, forge, project)
    await db.delete(user)
    await db.flush()
