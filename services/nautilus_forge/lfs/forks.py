"""LFS objects on the ways between a project and its forks: nobody has to upload what the other one has.

Each way is open only to somebody who could as well fetch the object there and upload it here.

Source: gitlabhq app/workers/repository_fork_worker.rb, app/services/merge_requests/link_lfs_objects_service.rb,
app/controllers/repositories/lfs_api_controller.rb (`should_auto_link?`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from sqlalchemy import literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import LfsObject, LfsObjectProject, Project
from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.lfs import pointers
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import standing_of

log = logging.getLogger(__name__)


async def give_to_fork(db: AsyncSession, source_id: int, fork_id: int) -> None:
    """The fork has what its source has at this moment."""
    await _share(db, source_id, fork_id)


async def give_to_target(
    db: AsyncSession, git: Git, source_id: int, target_id: int, base: str, head: str
) -> None:
    """The target of a merge request has what the fork's new commits point to, as far as the fork has it.

    `git`: of a repository that has both commits.
    """
    try:
        named = await pointers.between(git, base, head)
    except GitError as error:
        log.warning("LFS objects of project %d for project %d: %s", source_id, target_id, error)
        return
    if named:
        await _share(db, source_id, target_id, named)


async def take_from_source(db: AsyncSession, who: Principal, project: Project, oids: Collection[str]) -> None:
    """A fork gets those of the objects that its source has, if this caller may read the source."""
    source = await db.get(Project, project.forked_from_id) if project.forked_from_id is not None else None
    if source is None or source.deleted_at is not None or not oids:
        return
    if (await standing_of(db, who, source)).can(Ability.READ_CODE):
        await _share(db, source.id, project.id, oids)


async def _share(db: AsyncSession, giver_id: int, taker_id: int, oids: Collection[str] | None = None) -> None:
    theirs = select(literal(taker_id), LfsObjectProject.lfs_object_id).where(
        LfsObjectProject.project_id == giver_id
    )
    if oids is not None:
        theirs = theirs.join(LfsObject, LfsObject.id == LfsObjectProject.lfs_object_id)
        theirs = theirs.where(LfsObject.oid.in_(set(oids)))
    statement = postgresql.insert(LfsObjectProject).from_select(["project_id", "lfs_object_id"], theirs)
    await db.execute(statement.on_conflict_do_nothing())
