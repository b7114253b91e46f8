"""Deleting a project: its rows at once, its files after the commit."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Project
from nautilus_forge.forge import Forge


async def remove_project(db: AsyncSession, forge: Forge, project: Project) -> None:
    """The rows (and by foreign keys everything that hangs on them) now; repository and CI files afterwards.

    A crash between the two leaves a repository without a project, which `sweep_repositories` removes.
    """
    project_id = project.id
    db.expunge(project)
    await db.execute(delete(Project).where(Project.id == project_id))

    async def remove_files() -> None:
        await forge.repositories.remove(project_id)
        for callback in forge.on_project_deleted:
            await callback(project_id)

    after_commit(db, remove_files)
