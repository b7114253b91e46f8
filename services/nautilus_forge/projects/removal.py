"""Deleting projects: invisible at once, then the files, then the rows.

The row stays, marked, until the files are gone: so a crash in between is finished at the next start, and a
repository is only ever deleted for a project that somebody deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Project
from nautilus_forge.forge import Forge

log = logging.getLogger(__name__)


async def remove_project(db: AsyncSession, forge: Forge, project: Project) -> None:
    """The project does not exist any more once the session has committed; its name is free again."""
    await mark_deleted(db, project)
    project_id = project.id

    async def finish() -> None:
        await finish_removal(forge, [project_id])

    after_commit(db, finish)


async def mark_deleted(db: AsyncSession, project: Project) -> None:
    project.deleted_at = datetime.now(UTC)
    project.path = f"{project.path}-deleted-{project.id}"
    await db.flush()


async def finish_removal(forge: Forge, project_ids: Sequence[int]) -> None:
    """Delete the files and then the rows of projects that are marked, with all that hangs on them."""
    for project_id in project_ids:
        await forge.repositories.remove(project_id)
        for callback in forge.on_project_deleted:
            await callback(project_id)
        async with forge.database.unit_of_work() as db:
            await db.execute(delete(Project).where(Project.id == project_id, Project.deleted_at.is_not(None)))
    forge.lfs.collect.set()
    if forge.registry is not None:  # its images outlive a project until the registry has deleted them
        forge.registry.work.set()


async def finish_removals(forge: Forge) -> None:
    """A start-up step: what a crash interrupted."""
    async with forge.database.session() as db:
        marked = (await db.scalars(select(Project.id).where(Project.deleted_at.is_not(None)))).all()
    if marked:
        log.info("finishing the deletion of %d projects", len(marked))
        await finish_removal(forge, marked)
