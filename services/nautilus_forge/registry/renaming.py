"""A project whose images have tags keeps its path: they would be found under the old one alone.

Source: gitlabhq app/services/projects/update_service.rb (`validate_renaming_project_with_tags`),
app/models/user.rb (`check_username_change_with_container_registry_tags`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import ContainerRepository, Namespace, Project, User
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.forge import Forge
from nautilus_forge.registry.errors import RegistryUnavailable


async def has_tags(db: AsyncSession, forge: Forge, project_ids: Sequence[int]) -> bool:
    """Whether any image of the projects has a tag. Raises `RegistryUnavailable` where that can't be known."""
    rows = (
        await db.scalars(
            select(ContainerRepository.path).where(ContainerRepository.project_id.in_(project_ids))
        )
    ).all()
    if rows and forge.registry is None:
        raise RegistryUnavailable("this project had images, and the container registry is switched off")
    for path in rows:
        assert forge.registry is not None
        if await forge.registry.client.tags(path):
            return True
    return False


async def follow(db: AsyncSession, project: Project) -> None:
    """The (empty) repositories of a renamed project get its new path."""
    statement = select(ContainerRepository).where(ContainerRepository.project_id == project.id)
    for row in await db.scalars(statement):
        row.path = "/".join(filter(None, (project.path_with_namespace.lower(), row.name)))
    await db.flush()


async def refuse_user(db: AsyncSession, forge: Forge, user: User) -> None:
    """Raises `InvalidRecord` where a project of the user's own has images, `RegistryUnavailable`."""
    if await has_tags(db, forge, [project.id for project in await _own_projects(db, user)]):
        raise InvalidRecord(
            {"username": ["cannot be changed if a personal project has container registry tags."]}
        )


async def follow_user(db: AsyncSession, user: User) -> None:
    for project in await _own_projects(db, user):
        await follow(db, project)


async def _own_projects(db: AsyncSession, user: User) -> Sequence[Project]:
    statement = select(Project).where(Project.namespace.has(Namespace.owner_id == user.id))
    return (await db.scalars(statement)).unique().all()
