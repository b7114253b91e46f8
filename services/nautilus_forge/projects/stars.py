"""Stars: who has one, and how many a project has.

Source: gitlabhq app/models/users_star_project.rb.
"""

from __future__ import annotations

from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project, Star


async def give(db: AsyncSession, user_id: int, project: Project) -> bool:
    """False where the user has starred the project already."""
    statement = insert(Star).values(user_id=user_id, project_id=project.id).on_conflict_do_nothing()
    return await _counted(
        db, project, 1, (await db.execute(statement.returning(Star.id))).first() is not None
    )


async def take(db: AsyncSession, user_id: int, project: Project) -> bool:
    """False where there was none."""
    statement = delete(Star).where(Star.user_id == user_id, Star.project_id == project.id)
    return await _counted(
        db, project, -1, (await db.execute(statement.returning(Star.id))).first() is not None
    )


async def _counted(db: AsyncSession, project: Project, difference: int, has_changed: bool) -> bool:
    if has_changed:
        await db.execute(
            update(Project)
            .where(Project.id == project.id)
            .values(star_count=Project.star_count + difference, updated_at=Project.updated_at)
            .execution_options(synchronize_session=False)
        )
        await db.refresh(project)
    return has_changed
