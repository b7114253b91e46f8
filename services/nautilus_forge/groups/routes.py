"""`/groups`: list, create, read, change, delete.

Source: doc/api/groups.md, gitlabhq lib/api/groups.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import Select, or_
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import MaybeWho, Who
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Namespace, Project
from nautilus_forge.errors import Forbidden, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.groups import entities, queries, service
from nautilus_forge.groups.access import GroupAccess, find_group, group_with, standing_of
from nautilus_forge.groups.params import ChangeGroup, CreateGroup, ListGroupProjects, ListGroups, ReadGroup
from nautilus_forge.groups.removal import remove_group
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import Params
from nautilus_forge.policy import GroupAbility
from nautilus_forge.projects import listing
from nautilus_forge.projects.params import ListProjects
from nautilus_forge.projects.queries import visible_to
from nautilus_forge.projects.shares import shared_with
from nautilus_forge.responses import Json

router = APIRouter()

Read = Annotated[GroupAccess, Depends(group_with(GroupAbility.READ_GROUP))]
Change = Annotated[GroupAccess, Depends(group_with(GroupAbility.ADMIN_GROUP))]
Remove = Annotated[GroupAccess, Depends(group_with(GroupAbility.REMOVE_GROUP))]
Filter = Annotated[ListGroups, Params(ListGroups)]

_MOST_PROJECTS = 100
"""So many projects come with the group's own answer. Source: GroupProjectsFinder::DEFAULT_PROJECTS_LIMIT."""


async def _page(db: AsyncSession, forge: Forge, page: Page, statement: Select[Namespace]) -> Response:
    return await page.of(db, statement, lambda group: entities.shown(forge.settings, group))


@router.get("/groups")
async def list_groups(who: MaybeWho, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """Those that one may see; for administrators all of them."""
    return await _page(db, forge, page, queries.filtered(who.user, params))


@router.post("/groups")
async def create_group(
    who: Who, db: Db, forge: TheForge, params: Annotated[CreateGroup, Params(CreateGroup)]
) -> Response:
    """At the top for those who may (`can_create_group`), below a group by its `subgroup_creation_level`."""
    user = who.require_user()
    given = params.given()
    parent_id = given.pop("parent_id", None)
    parent = None
    if parent_id is not None:
        parent = await find_group(db, str(parent_id))
        if parent is None:
            raise NotFound("Group")
        (await standing_of(db, user, parent)).require(GroupAbility.CREATE_SUBGROUP)
    elif not user.is_admin and (not user.can_create_group or user.is_external or user.is_bot):
        raise Forbidden
    group = await service.create_group(db, creator=user, parent=parent, given=given)
    return Json(entities.detail(forge.settings, group), 201)


@router.get("/groups/{id}")
async def read_group(
    at: Read, db: Db, forge: TheForge, params: Annotated[ReadGroup, Params(ReadGroup)]
) -> Response:
    """By id or URL-encoded path, with its projects unless `with_projects=false`."""
    shown = entities.detail(forge.settings, at.group)
    if params.with_projects:
        statement = visible_to(at.user).where(Project.namespace_id == at.group.id)
        newest = statement.order_by(Project.id.desc()).limit(_MOST_PROJECTS)
        projects = list((await db.scalars(newest)).unique().all())
        shown["projects"] = await listing.shown(db, forge, at.user, projects)
        shared = visible_to(at.user).where(Project.id.in_(shared_with(at.group)))
        shared = shared.order_by(Project.id.desc()).limit(_MOST_PROJECTS)
        projects = list((await db.scalars(shared)).unique().all())
        shown["shared_projects"] = await listing.shown(db, forge, at.user, projects)
    return Json(shown)


@router.put("/groups/{id}")
async def change_group(
    at: Change, db: Db, forge: TheForge, params: Annotated[ChangeGroup, Params(ChangeGroup)]
) -> Response:
    """A new path moves all clone addresses below the group; the repositories stay where they are."""
    await service.change_group(db, forge, at.who.require_user(), at.group, params.given())
    return Json(entities.detail(forge.settings, at.group))


@router.delete("/groups/{id}")
async def delete_group(at: Remove, db: Db, forge: TheForge) -> Response:
    """At once and for good: its subgroups, projects, repositories, pipelines, logs and artifacts too."""
    await remove_group(db, forge, at.group)
    return Json({"message": "202 Accepted"}, 202)


@router.get("/groups/{id}/subgroups")
async def list_subgroups(at: Read, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """Those right below it."""
    statement = queries.filtered(at.user, params, below=True).where(Namespace.parent_id == at.group.id)
    return await _page(db, forge, page, statement)


@router.get("/groups/{id}/descendant_groups")
async def list_descendants(at: Read, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """Those below it at any depth."""
    statement = queries.filtered(at.user, params, below=True)
    statement = statement.where(queries.below(at.group), Namespace.id != at.group.id)
    return await _page(db, forge, page, statement)


@router.get("/groups/{id}/projects")
async def list_projects(
    at: Read,
    db: Db,
    forge: TheForge,
    page: Paged,
    params: Annotated[ListGroupProjects, Params(ListGroupProjects)],
) -> Response:
    """Its projects and those shared with it, with `include_subgroups` those of all groups below, as far as one may
    see them.
    """
    statement = listing.filtered(at.user, params)
    inside = [Project.namespace_id == at.group.id]
    if params.with_shared:
        inside.append(Project.id.in_(shared_with(at.group)))
    if params.include_subgroups:
        inside.append(Project.namespace.has(queries.below(at.group)))
    if params.include_ancestor_groups:
        inside.append(Project.namespace_id.in_(at.group.traversal_ids))
    return await listing.listed(db, forge, at.who, page, params, statement.where(or_(*inside)))


@router.get("/groups/{id}/projects/shared")
async def list_shared_projects(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListProjects, Params(ListProjects)]
) -> Response:
    """Other groups' projects that are shared with it."""
    statement = listing.filtered(at.user, params).where(Project.id.in_(shared_with(at.group)))
    return await listing.listed(db, forge, at.who, page, params, statement)
