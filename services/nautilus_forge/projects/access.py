"""From a request to "this project, seen by this person": finding, standing, and the dependency of all routes."""

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
from nautilus_forge.deploy_tokens.service import abilities
from nautilus_forge.errors import NotFound
from nautilus_forge.namespaces.level import counts
from nautilus_forge.policy import Ability, Level, Standing
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.projects.job_reach import reach_of
from nautilus_forge.projects.shares import level_by_shares


@dataclass(frozen=True)
class ProjectAccess:
    """A project that the principal may see, with what he may do there."""

    project: Project
    who: Principal
    standing: Standing

    @property
    def user(self) -> User | None:
        return self.who.user

    def can(self, ability: Ability) -> bool:
        return self.standing.can(ability)

    def require(self, ability: Ability) -> None:
        """Raises `Forbidden` (or `NotFound` where the project may not be seen)."""
        self.standing.require(ability)


async def find_project(db: AsyncSession, id_or_path: str) -> Project | None:
    """By id ("12") or by full path ("root/digits", without regard to case); deleted ones are not found."""
    statement = select(Project).where(Project.deleted_at.is_(None))
    if id_or_path.isascii() and id_or_path.isdigit():
        if len(id_or_path) > 18:
            return None
        return await db.scalar(statement.where(Project.id == int(id_or_path)))
    folder, slash, path = id_or_path.rpartition("/")
    if not slash or "\x00" in id_or_path:
        return None
    statement = statement.join(Namespace, Namespace.id == Project.namespace_id)
    named = (func.lower(Namespace.full_path) == folder.lower(), func.lower(Project.path) == path.lower())
    return await db.scalar(statement.where(*named))


async def level_of(db: AsyncSession, user: User | None, project: Project) -> Level:
    """The highest of: administrator, owner of the namespace, membership in the project or a group above it, or in
    a group that it is shared with.
    """
    if user is None:
        return Level.NONE
    if user.is_admin:
        return Level.ADMIN
    if project.namespace.owner_id == user.id:
        return Level.OWNER
    own = select(func.max(Member.access_level)).where(
        counts(user),
        (Member.project_id == project.id) | Member.namespace_id.in_(project.namespace.traversal_ids),
    )
    shared = level_by_shares(user, project)
    highest = await db.scalar(select(func.greatest(own.scalar_subquery(), shared.scalar_subquery())))
    return Level(highest or Level.NONE)


async def standing_of(db: AsyncSession, who: Principal, project: Project) -> Standing:
    """How the principal stands to the project."""
    user = who.user
    job = None
    if who.job is not None:
        job = await reach_of(db, who.job.project_id, project.id)
    return Standing(
        visibility=project.visibility,
        level=await level_of(db, user, project),
        is_signed_in=user is not None and not user.is_external,
        is_archived=project.is_archived,
        public_jobs=bool(attribute(project, "public_jobs")),
        job=job,
        registry=str(attribute(project, "container_registry_access_level")),
        merge_requests=str(attribute(project, "merge_requests_access_level")),
        deploy=abilities(who.deploy_token, project) if who.deploy_token is not None else None,
    )


async def access_to(db: AsyncSession, who: Principal, id_or_path: str, ability: Ability) -> ProjectAccess:
    """Raises `NotFound` (no such project, or none for this principal's eyes), `Forbidden`."""
    project = await find_project(db, id_or_path)
    if project is None:
        raise NotFound("Project")
    standing = await standing_of(db, who, project)
    standing.require(ability)
    return ProjectAccess(project, who, standing)


def project_with(
    ability: Ability, *scopes: str, anonymous: bool = True, job_token: bool = False, param: str = "id"
) -> Callable[..., Any]:
    """A dependency that yields the `ProjectAccess` of the path parameter `id`, checked for `ability`.

    `scopes`, `job_token` as in `auth.authenticated`; `anonymous` counts for reads only, as in GitLab.
    """

    async def dependency(request: Request, db: Db) -> ProjectAccess:
        who = await identify(request, db)
        is_read = request.method in ("GET", "HEAD")
        admit(request, who, scopes, anonymous=anonymous and is_read, job_token=job_token)
        id_or_path = unquote(request.path_params[param], errors="replace")
        return await access_to(db, who, id_or_path, ability)

    return dependency
