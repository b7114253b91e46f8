"""Keeps `projects.languages` as the default branch is: after pushes to it, and after imports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import GitError
from nautilus_forge.ports import RefChange
from nautilus_forge.projects import languages

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge

log = logging.getLogger(__name__)


async def recount(forge: Forge, project_id: int) -> dict[str, float]:
    """Count the languages of the default branch, unless it stands where it stood; what is known then is kept."""
    async with forge.database.unit_of_work() as db:
        project = await db.get(Project, project_id)
        if project is None or project.deleted_at is not None:
            return {}
        await db.commit()  # gives the connection back while git looks
        sha, found = await languages.count(forge.repositories.git(project_id), project.default_branch)
        if sha != project.languages_sha:
            await db.execute(
                update(Project)
                .where(Project.id == project_id)
                .values(languages=found, languages_sha=sha, updated_at=Project.updated_at)
                .execution_options(synchronize_session=False)
            )
    return found


class LanguageUpkeep:
    """Counts beside the requests, one count of a project at a time; pushes meanwhile make one more."""

    def __init__(self) -> None:
        self._counting: set[int] = set()
        self._again: set[int] = set()

    async def follow(
        self,
        db: AsyncSession,
        forge: Forge,
        *,
        project: Project,
        user: User | None,
        change: RefChange,
        push_options: Sequence[str] = (),
    ) -> None:
        """Implements `ports.FollowRefChange`."""
        if change.is_deletion or change.ref != f"refs/heads/{project.default_branch}":
            return
        project_id = project.id

        async def start() -> None:
            if project_id in self._counting:
                self._again.add(project_id)
                return
            self._counting.add(project_id)
            forge.spawn(self._count(forge, project_id), f"languages of project {project_id}")

        after_commit(db, start)

    async def _count(self, forge: Forge, project_id: int) -> None:
        try:
            await recount(forge, project_id)
            while project_id in self._again:
                self._again.discard(project_id)
                await recount(forge, project_id)
        except GitError as error:
            log.warning("languages of project %d: %s", project_id, error)
        finally:
            self._counting.discard(project_id)
            self._again.discard(project_id)
