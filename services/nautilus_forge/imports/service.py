"""Asking for imports, and what rows say about them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Project, ProjectImport
from nautilus_forge.forge import Forge
from nautilus_forge.outbound.target import Target


async def schedule_git(
    db: AsyncSession, forge: Forge, project: Project, target: Target, user_id: int
) -> None:
    """Fill the project from a URL once the session has committed."""
    sealed = forge.imports.seal(target.username, target.password) if target.has_credentials else None
    await _schedule(
        db,
        forge,
        ProjectImport(
            project_id=project.id,
            kind="git",
            url=target.url,
            credentials=sealed,
            user_id=user_id,
            status="scheduled",
        ),
    )


async def schedule_fork(
    db: AsyncSession, forge: Forge, project: Project, source: Project, user_id: int, branch: str | None
) -> None:
    """Fill the project from another one (one `branch` of it, or all) once the session has committed."""
    await _schedule(
        db,
        forge,
        ProjectImport(
            project_id=project.id,
            kind="fork",
            source_id=source.id,
            branch=branch,
            user_id=user_id,
            status="scheduled",
        ),
    )


async def _schedule(db: AsyncSession, forge: Forge, row: ProjectImport) -> None:
    db.add(row)
    await db.flush()
    project_id = row.project_id

    async def start() -> None:
        forge.imports.start(project_id)

    after_commit(db, start)


async def imports_of(db: AsyncSession, project_ids: Sequence[int]) -> dict[int, ProjectImport]:
    """By project; most have none."""
    if not project_ids:
        return {}
    found = await db.scalars(select(ProjectImport).where(ProjectImport.project_id.in_(project_ids)))
    return {row.project_id: row for row in found}
