"""Removing an account with everything that is his."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace, Project, User
from nautilus_forge.errors import Conflict
from nautilus_forge.forge import Forge
from nautilus_forge.projects.removal import finish_removal, mark_deleted
from nautilus_forge.users.service import set_state


async def remove_user(db: AsyncSession, forge: Forge, user: User) -> None:
    """Projects, tokens, sessions and memberships go too. Commits in between; raises `Conflict` for the last
    administrator.
    """
    if user.is_admin:
        others = select(func.count()).select_from(User).where(User.is_admin, User.id != user.id)
        if not await db.scalar(others):
            raise Conflict("The last administrator can not be deleted")
    await set_state(db, user, "blocked")
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
