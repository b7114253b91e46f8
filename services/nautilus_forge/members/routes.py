"""Members of projects and groups.

Source: doc/api/members.md, gitlabhq lib/api/members.rb.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Member, User
from nautilus_forge.errors import ForgeError, InvalidParams, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.groups.resource import Resource, resource_with
from nautilus_forge.members import entities, queries, service
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import AccessLevel, Day, Ids, ParamModel, Params, path_id
from nautilus_forge.policy import Ability, GroupAbility
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.queries import like

router = APIRouter()

Read = Annotated[Resource, Depends(resource_with(Ability.READ_MEMBER, GroupAbility.READ_MEMBER))]
Administer = Annotated[Resource, Depends(resource_with(Ability.ADMIN_MEMBER, GroupAbility.ADMIN_MEMBER))]
Leave = Annotated[Resource, Depends(resource_with(Ability.READ_PROJECT, GroupAbility.READ_GROUP))]
UserId = Annotated[int, Depends(path_id("user_id"))]


class ListMembers(ParamModel):
    query: str | None = None
    user_ids: Ids = []  # noqa: RUF012
    skip_users: Ids = []  # noqa: RUF012


class AddMember(ParamModel):
    user_id: str | None = None
    username: str | None = None
    access_level: AccessLevel
    expires_at: Day = None


class ChangeMember(ParamModel):
    access_level: AccessLevel
    expires_at: Day = None


class RemoveMember(ParamModel):
    skip_subresources: bool = False


Filter = Annotated[ListMembers, Params(ListMembers)]


async def _listed(
    db: AsyncSession, forge: Forge, page: Page, statement: queries.Rows, params: ListMembers
) -> Response:
    if params.query:
        pattern = like(params.query)
        statement = statement.where(or_(User.name.ilike(pattern), User.username.ilike(pattern)))
    if params.user_ids:
        statement = statement.where(Member.user_id.in_(params.user_ids))
    if params.skip_users:
        statement = statement.where(Member.user_id.not_in(params.skip_users))
    total = await page.count(db, statement.with_only_columns(Member.id))
    found = await queries.page(db, statement, page.per_page, page.offset)
    return page.respond([entities.member(forge.settings, one) for one in found], total)


@router.get("/groups/{id}/members")
@router.get("/projects/{id}/members")
async def list_members(at: Read, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """Direct members only."""
    return await _listed(db, forge, page, queries.direct(at), params)


@router.get("/groups/{id}/members/all")
@router.get("/projects/{id}/members/all")
async def list_all_members(at: Read, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """With those who come from the groups above, and from groups that the project is shared with."""
    return await _listed(db, forge, page, queries.with_inherited(at), params)


@router.get("/groups/{id}/members/all/{user_id}")
@router.get("/projects/{id}/members/all/{user_id}")
async def read_any_member(at: Read, db: Db, forge: TheForge, user_id: UserId) -> Response:
    return Json(entities.member(forge.settings, await queries.one(db, queries.with_inherited(at), user_id)))


@router.get("/groups/{id}/members/{user_id}")
@router.get("/projects/{id}/members/{user_id}")
async def read_member(at: Read, db: Db, forge: TheForge, user_id: UserId) -> Response:
    return Json(entities.member(forge.settings, await queries.one(db, queries.direct(at), user_id)))


@router.post("/groups/{id}/members")
@router.post("/projects/{id}/members")
async def add_member(
    at: Administer, db: Db, forge: TheForge, params: Annotated[AddMember, Params(AddMember)]
) -> Response:
    """409 for somebody who is a member already. Several `user_id`s or `username`s with commas: see `_add_several`."""
    if (params.user_id is None) == (params.username is None):
        raise InvalidParams("user_id, username are missing, exactly one parameter must be provided")
    named = params.user_id if params.user_id is not None else params.username or ""
    if "," in named:
        return await _add_several(db, at, [part.strip() for part in named.split(",")], params)
    user = await _named(db, named, by_id=params.user_id is not None)
    added = await service.add(db, at, user, params.access_level, params.expires_at)
    return Json(entities.member(forge.settings, added), 201)


async def _add_several(db: AsyncSession, at: Resource, names: list[str], params: AddMember) -> Response:
    """As many as can be; the others are named with the reason. Source: app/services/members/create_service.rb."""
    problems: dict[str, Any] = {}
    for name in dict.fromkeys(filter(None, names)):
        try:
            async with db.begin_nested():
                user = await _named(db, name, by_id=params.user_id is not None)
                await service.add(db, at, user, params.access_level, params.expires_at)
        except ForgeError as error:
            problems[name] = str(error)
    if problems:
        return Json({"status": "error", "message": problems}, 201)
    return Json({"status": "success"}, 201)


async def _named(db: AsyncSession, name: str, *, by_id: bool) -> User:
    if not by_id:
        user = await db.scalar(select(User).where(func.lower(User.username) == name.lower()))
    elif name.isascii() and name.isdigit():
        user = await find_user(db, name)
    else:
        raise InvalidParams("user_id is invalid")
    if user is None:
        raise NotFound("User")
    return user


@router.put("/groups/{id}/members/{user_id}")
@router.put("/projects/{id}/members/{user_id}")
async def change_member(
    at: Administer,
    db: Db,
    forge: TheForge,
    user_id: UserId,
    params: Annotated[ChangeMember, Params(ChangeMember)],
) -> Response:
    found = await queries.one(db, queries.direct(at), user_id)
    await service.change(db, at, found.member, found.user, params.access_level, params.given())
    return Json(entities.member(forge.settings, replace(found, level=params.access_level)))


@router.delete("/groups/{id}/members/{user_id}")
@router.delete("/projects/{id}/members/{user_id}")
async def remove_member(
    at: Leave, db: Db, user_id: UserId, params: Annotated[RemoveMember, Params(RemoveMember)]
) -> Response:
    """Everybody may leave; the last owner of a group stays, and a user's own project keeps him."""
    found = await queries.one(db, queries.direct(at), user_id)
    await service.remove(db, at, found.member, found.user, skip_subresources=params.skip_subresources)
    return no_content()
