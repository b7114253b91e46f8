"""From a request to "this group, seen by this person": finding, standing, and the dependency of all routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.auth import Principal, admit, identify
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import NotFound
from nautilus_forge.groups.attributes import attribute
from nautilus_forge.namespaces import level
from nautilus_forge.policy import GroupAbility, GroupStanding, Level


@dataclass(frozen=True)
class GroupAccess:
    """A group that the principal may see, with what he may do there."""

    group: Namespace
    who: Principal
    standing: GroupStanding

    @property
    def user(self) -> User | None:
        return self.who.user

    def can(self, ability: GroupAbility) -> bool:
        return self.standing.can(ability)

    def require(self, ability: GroupAbility) -> None:
        """Raises `Forbidden` (or `NotFound` where the group may not be seen)."""
        self.standing.require(ability)


async def find_group(db: AsyncSession, id_or_path: str) -> Namespace | None:
    """By id ("12") or by full path ("research/vision", without regard to case); deleted ones are not found."""
    statement = select(Namespace).where(Namespace.kind == NamespaceKind.GROUP, Namespace.deleted_at.is_(None))
    if id_or_path.isascii() and id_or_path.isdigit():
        if len(id_or_path) > 18:
            return None
        return await db.scalar(statement.where(Namespace.id == int(id_or_path)))
    if "\x00" in id_or_path:
        return None
    return await db.scalar(statement.where(func.lower(Namespace.full_path) == id_or_path.lower()))


async def standing_of(db: AsyncSession, user: User | None, group: Namespace) -> GroupStanding:
    """How the user (None: nobody) stands to the group."""
    standing = GroupStanding(
        visibility=group.visibility,
        level=await level.of(db, user, group) if user is not None else Level.NONE,
        is_signed_in=user is not None and not user.is_external,
        project_creation=str(attribute(group, "project_creation_level")),
        subgroup_creation=str(attribute(group, "subgroup_creation_level")),
    )
    if user is None or standing.can(GroupAbility.READ_GROUP) or not await _reaches_below(db, user, group):
        return standing
    return GroupStanding(**{**standing.__dict__, "reaches_below": True})


async def _reaches_below(db: AsyncSession, user: User, group: Namespace) -> bool:
    below = select(Namespace.id).where(Namespace.traversal_ids.contains([group.id]))
    projects = select(Project.id).where(Project.namespace_id.in_(below), Project.deleted_at.is_(None))
    statement = select(Member.id).where(
        level.counts(user), Member.namespace_id.in_(below) | Member.project_id.in_(projects)
    )
    return await db.scalar(statement.limit(1)) is not None


async def access_to(db: AsyncSession, who: Principal, id_or_path: str, ability: GroupAbility) -> GroupAccess:
    """Raises `NotFound` (no such group, or none for this principal's eyes), `Forbidden`."""
    group = await find_group(db, id_or_path)
    if group is None:
        raise NotFound("Group")
    standing = await standing_of(db, who.user, group)
    standing.require(ability)
    return GroupAccess(group, who, standing)


def group_with(
    ability: GroupAbility, *scopes: str, anonymous: bool = True, param: str = "id"
) -> Callable[..., Any]:
    """A dependency that yields the `GroupAccess` of the path parameter `id`, checked for `ability`.

    `scopes` as in `auth.authenticated`; `anonymous` counts for reads only, as in GitLab.
    """

    async def dependency(request: Request, db: Db) -> GroupAccess:
        who = await identify(request, db)
        is_read = request.method in ("GET", "HEAD")
        admit(request, who, scopes, anonymous=anonymous and is_read)
        id_or_path = unquote(request.path_params[param], errors="replace")
        return await access_to(db, who, id_or_path, ability)

    return dependency
