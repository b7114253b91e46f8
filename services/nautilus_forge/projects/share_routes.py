"""Sharing with groups, and who and which groups reach a project.

Source: doc/api/projects.md ("Share project with group", "Get project users", "List groups"), gitlabhq
lib/api/projects.rb, app/services/projects/group_links/create_service.rb.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import ColumnElement, func, insert, literal, or_, select
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Member, Namespace, ProjectGroupLink, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import Conflict, Forbidden, NotFound
from nautilus_forge.groups import entities as group_entities
from nautilus_forge.groups.access import find_group, standing_of
from nautilus_forge.namespaces import level
from nautilus_forge.pagination import Paged
from nautilus_forge.params import CommaList, Field, Id, ParamModel, Params, path_id
from nautilus_forge.policy import Ability, GroupAbility, Level
from nautilus_forge.projects import shares
from nautilus_forge.projects.access import ProjectAccess, access_to, project_with
from nautilus_forge.projects.params import GrantLevel
from nautilus_forge.responses import Json, day, no_content
from nautilus_forge.users.entities import user_basic
from nautilus_forge.users.queries import like

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_MEMBER))]
SourceId = Annotated[int, Depends(path_id("source_id", "Project"))]
GroupId = Annotated[int, Depends(path_id("group_id", "Group Link"))]


class Share(ParamModel):
    group_id: Id
    group_access: GrantLevel
    expires_at: date | None = None


class ListUsers(ParamModel):
    search: str | None = None
    skip_users: CommaList = Field(default=[])


class ListGroups(ParamModel):
    search: str | None = None
    skip_groups: CommaList = Field(default=[])
    with_shared: bool = False
    shared_visible_only: bool = False
    shared_min_access_level: GrantLevel | None = None


class InvitedGroups(ParamModel):
    """`relation`: `direct`, `inherited` (there are none)."""

    relation: CommaList | None = None
    search: str | None = None
    min_access_level: GrantLevel | None = None


def _numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 19]


def _entity(link: ProjectGroupLink) -> dict[str, Any]:
    return {
        "id": link.id,
        "project_id": link.project_id,
        "group_id": link.group_id,
        "group_access": link.group_access,
        "expires_at": day(link.expires_at),
    }


@router.post("/projects/{id}/share")
async def share_project(at: Administer, db: Db, params: Annotated[Share, Params(Share)]) -> Response:
    """The group must be one that we may see; nobody gives more than he has."""
    user = at.who.require_user()
    group = await find_group(db, str(params.group_id))
    if group is None or not (await standing_of(db, user, group)).can(GroupAbility.READ_GROUP):
        raise NotFound
    if params.group_access > at.standing.level:
        raise Forbidden
    same = select(ProjectGroupLink.id).where(
        ProjectGroupLink.project_id == at.project.id, ProjectGroupLink.group_id == group.id
    )
    if await db.scalar(same) is not None:
        raise Conflict("Group already shared with this group")
    link = ProjectGroupLink(
        project_id=at.project.id,
        group_id=group.id,
        group_access=params.group_access,
        expires_at=params.expires_at,
    )
    db.add(link)
    await db.flush()
    return Json(_entity(link), 201)


@router.delete("/projects/{id}/share/{group_id}")
async def unshare_project(at: Administer, db: Db, group_id: GroupId) -> Response:
    link = await db.scalar(
        select(ProjectGroupLink).where(
            ProjectGroupLink.project_id == at.project.id, ProjectGroupLink.group_id == group_id
        )
    )
    if link is None:
        raise NotFound("Group Link")
    await db.delete(link)
    return no_content()


@router.get("/projects/{id}/users")
async def list_users(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListUsers, Params(ListUsers)]
) -> Response:
    """Everybody with a membership here, in a group above or in one that it is shared with."""
    project = at.project
    members = select(Member.user_id).where(
        level.is_alive(),
        (Member.project_id == project.id) | Member.namespace_id.in_(project.namespace.traversal_ids),
    )
    reached = or_(
        User.id.in_(members),
        User.id.in_(shares.users_of(project)),
        User.id == (project.namespace.owner_id or 0),
    )
    statement = select(User).where(reached).order_by(User.id)
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(User.name.ilike(pattern), User.username.ilike(pattern)))
    if params.skip_users:
        statement = statement.where(User.id.not_in(_numbers(params.skip_users)))
    return await page.of(db, statement, lambda user: user_basic(forge.settings, user))


@router.get("/projects/{id}/groups")
async def list_groups(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListGroups, Params(ListGroups)]
) -> Response:
    """The groups above the project; `with_shared`: and those that it is shared with."""
    wanted: ColumnElement[bool] = Namespace.id.in_(at.project.namespace.traversal_ids)
    if params.with_shared:
        linked = select(ProjectGroupLink.group_id).where(
            ProjectGroupLink.project_id == at.project.id, shares.is_alive()
        )
        if params.shared_min_access_level is not None:
            linked = linked.where(ProjectGroupLink.group_access >= params.shared_min_access_level)
        shared = await _seen(db, at, linked) if params.shared_visible_only else linked
        wanted = or_(wanted, Namespace.id.in_(shared))
    statement = select(Namespace).where(
        wanted, Namespace.kind == NamespaceKind.GROUP, Namespace.deleted_at.is_(None)
    )
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(Namespace.name.ilike(pattern), Namespace.full_path.ilike(pattern)))
    if params.skip_groups:
        statement = statement.where(Namespace.id.not_in(_numbers(params.skip_groups)))
    return await page.of(
        db, statement.order_by(Namespace.id), lambda group: group_entities.public(forge.settings, group)
    )


@router.get("/projects/{id}/invited_groups")
async def list_invited_groups(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[InvitedGroups, Params(InvitedGroups)]
) -> Response:
    """The groups that the project is shared with, as far as the viewer may see them (nobody in particular: none)."""
    if at.user is None or (params.relation and "direct" not in params.relation):
        return page.respond([], 0)
    linked = select(ProjectGroupLink.group_id).where(
        ProjectGroupLink.project_id == at.project.id, shares.is_alive()
    )
    seen = await _seen(db, at, linked, params.min_access_level)
    statement = select(Namespace).where(Namespace.id.in_(seen), Namespace.deleted_at.is_(None))
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(Namespace.name.ilike(pattern), Namespace.full_path.ilike(pattern)))
    return await page.of(
        db, statement.order_by(Namespace.id), lambda group: group_entities.shown(forge.settings, group)
    )


@router.post("/projects/{id}/import_project_members/{source_id}")
async def import_members(at: Administer, db: Db, source_id: SourceId) -> Response:
    """The source's own members become members here, each at most with the importer's level; who is one stays as he is.

    Source: gitlabhq app/services/members/import_project_team_service.rb.
    """
    source = await access_to(db, at.who, str(source_id), Ability.READ_MEMBER)
    if source.project.id == at.project.id or source.standing.level < Level.MAINTAINER:
        raise NotFound("Project")
    here = select(Member.user_id).where(Member.project_id == at.project.id)
    theirs = select(
        Member.user_id,
        literal(at.project.id),
        func.least(Member.access_level, int(min(at.standing.level, Level.OWNER))),
        Member.expires_at,
        literal(at.who.require_user().id),
    ).where(Member.project_id == source.project.id, level.is_alive(), Member.user_id.not_in(here))
    columns = ["user_id", "project_id", "access_level", "expires_at", "created_by_id"]
    added = await db.execute(insert(Member).from_select(columns, theirs).returning(Member.user_id))
    return Json({"status": "success", "total_members_count": len(added.all())}, 201)


async def _seen(db: Db, at: ProjectAccess, linked: Any, at_least: int | None = None) -> list[int]:
    """Those of the groups that the viewer may see himself, or in which he has this level."""
    groups = (await db.scalars(select(Namespace).where(Namespace.id.in_(linked)))).all()
    return [
        group.id for group in groups if (await standing_of(db, at.user, group)).can(GroupAbility.READ_GROUP)
    ]
