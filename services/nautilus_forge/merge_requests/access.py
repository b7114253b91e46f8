"""From a request to "this merge request, seen by this person"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import MergeRequest, MergeRequestPerson, Project, User
from nautilus_forge.errors import NotFound
from nautilus_forge.merge_requests.people import ASSIGNEE
from nautilus_forge.params import path_id
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_MERGE_REQUEST))]
Iid = Annotated[int, Depends(path_id("iid"))]


@dataclass(frozen=True)
class MergeRequestAccess:
    """A merge request of a project that the principal may read."""

    merge_request: MergeRequest
    at: ProjectAccess

    @property
    def project(self) -> Project:
        return self.at.project

    @property
    def who(self) -> Principal:
        return self.at.who

    @property
    def user(self) -> User | None:
        return self.at.user


async def find(db: AsyncSession, project_id: int, iid: int, *, lock: bool = False) -> MergeRequest:
    """As the database has it now; `lock`: until the transaction ends. Raises `NotFound`."""
    statement = select(MergeRequest).where(MergeRequest.project_id == project_id, MergeRequest.iid == iid)
    if lock:
        statement = statement.with_for_update(key_share=True)
    found = await db.scalar(statement.execution_options(populate_existing=True))
    if found is None:
        raise NotFound
    return found


def merge_request_with(
    ability: Ability = Ability.READ_MERGE_REQUEST, *, by_author: bool = False, lock: bool = False
) -> Callable[..., Any]:
    """A dependency that yields the `MergeRequestAccess` of the path, checked for `ability`.

    `by_author`: its author and assignees may too, who can read it. `lock`: for changing it.
    """

    async def dependency(
        db: Db,
        at: Readable,
        iid: Iid,
    ) -> MergeRequestAccess:
        merge_request = await find(db, at.project.id, iid, lock=lock)
        is_own = by_author and not at.project.is_archived and await is_authors(db, merge_request, at.user)
        if not is_own:
            at.require(ability)
        return MergeRequestAccess(merge_request, at)

    return dependency


async def is_authors(db: AsyncSession, merge_request: MergeRequest, user: User | None) -> bool:
    """Is the user its author, or assigned to it?"""
    if user is None:
        return False
    if merge_request.author_id == user.id:
        return True
    key = (merge_request.id, ASSIGNEE, user.id)
    return await db.get(MergeRequestPerson, key) is not None
