"""Deleting groups: invisible at once with all that is below, then the repositories, then the rows.

Source: gitlabhq app/services/groups/destroy_service.rb.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Namespace, Project
from nautilus_forge.forge import Forge
from nautilus_forge.groups.queries import below
from nautilus_forge.projects.removal import finish_removal, mark_deleted

log = logging.getLogger(__name__)


async def remove_group(db: AsyncSession, forge: Forge, group: Namespace) -> None:
    """The group and what it holds do not exist any more once the session has committed; its path is free again."""
    group_id = group.id
    projects = (
        select(Project)
        .join(Namespace, Namespace.id == Project.namespace_id)
        .where(below(group), Project.deleted_at.is_(None))
    )
    for project in (await db.scalars(projects)).unique().all():
        await mark_deleted(db, project)
    rest = func.substr(Namespace.full_path, len(group.full_path) + 1)
    await db.execute(
        update(Namespace)
        .where(below(group))
        .values(
            deleted_at=datetime.now(UTC),
            full_path=f"{group.full_path}-deleted-{group_id}" + rest,
        )
        .execution_options(synchronize_session=False)
    )

    async def finish() -> None:
        await finish_group(forge, group_id)

    after_commit(db, finish)


async def finish_group(forge: Forge, group_id: int) -> None:
    """Delete the files and then the rows of a group that is marked, with all that is below."""
    inside = Namespace.traversal_ids.contains([group_id])
    async with forge.database.session() as db:
        projects = select(Project.id).join(Namespace, Namespace.id == Project.namespace_id).where(inside)
        ids = (await db.scalars(projects)).all()
    await finish_removal(forge, ids)
    async with forge.database.unit_of_work() as db:
        await db.execute(delete(Namespace).where(Namespace.id == group_id, Namespace.deleted_at.is_not(None)))


async def finish_removals(forge: Forge) -> None:
    """A start-up step: what a crash interrupted. Those in the middle of a tree go with the topmost."""
    async with forge.database.session() as db:
        marked = (await db.scalars(select(Namespace.id).where(Namespace.deleted_at.is_not(None)))).all()
    for group_id in marked:
        log.info("finishing the deletion of group %d", group_id)
        await finish_group(forge, group_id)
