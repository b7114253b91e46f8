"""Members of a project.

Source: doc/api/members.md, gitlabhq lib/api/members.rb.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Member, User
from nautilus_forge.errors import BadRequest, Conflict, Forbidden, InvalidParams, InvalidRecord, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.namespaces.level import at_and_above
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import Id, ParamModel, Params, path_id
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects import entities
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.queries import like

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_MEMBER, anonymous=False))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_MEMBER))]
Leave = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT))]
UserId = Annotated[int, Depends(path_id("user_id"))]
AccessLevel = Literal[5, 10, 15, 20, 30, 40, 50]


class ListMembers(ParamModel):
    query: str | None = None


class AddMember(ParamModel):
    user_id: Id | None = None
    username: str | None = None
    access_level: AccessLevel
    expires_at: date | None = None


class ChangeMember(ParamModel):
    access_level: AccessLevel
    expires_at: date | None = None


def _direct(at: ProjectAccess) -> Select[Member, User]:
    members = select(Member, User).join(User, User.id == Member.user_id)
    return members.where(Member.project_id == at.project.id)


async def _with_inherited(db: AsyncSession, at: ProjectAccess) -> Select[Member, User]:
    """Each user once, with his highest level in the project or above it."""
    above = await at_and_above(db, at.project.namespace)
    ranked = (
        select(
            Member.id,
            func.row_number()
            .over(partition_by=Member.user_id, order_by=Member.access_level.desc())
            .label("rank"),
        )
        .where((Member.project_id == at.project.id) | Member.namespace_id.in_(above))
        .subquery()
    )
    members = select(Member, User).join(User, User.id == Member.user_id)
    return members.where(Member.id.in_(select(ranked.c.id).where(ranked.c.rank == 1)))


async def _listed(
    db: AsyncSession, forge: Forge, page: Page, statement: Select[Member, User], query: str | None
) -> Response:
    if query:
        statement = statement.where(User.name.ilike(like(query)) | User.username.ilike(like(query)))
    total = await page.count(db, statement.with_only_columns(Member.id))
    rows = await db.execute(statement.order_by(Member.id).limit(page.per_page).offset(page.offset))
    return page.respond([await _entity(db, forge, member, user) for member, user in rows.all()], total)


async def _entity(db: AsyncSession, forge: Forge, member: Member, user: User) -> dict[str, Any]:
    creator = await db.get(User, member.created_by_id) if member.created_by_id is not None else None
    return entities.member(forge.settings, member, user, creator)


async def _one(db: AsyncSession, statement: Select[Member, User], user_id: int) -> tuple[Member, User]:
    row = (await db.execute(statement.where(User.id == user_id))).one_or_none()
    if row is None:
        raise NotFound
    return row[0], row[1]


@router.get("/projects/{id}/members")
async def list_members(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListMembers, Params(ListMembers)]
) -> Response:
    """Direct members only."""
    return await _listed(db, forge, page, _direct(at), params.query)


@router.get("/projects/{id}/members/all")
async def list_all_members(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListMembers, Params(ListMembers)]
) -> Response:
    """With those who come from the groups above."""
    return await _listed(db, forge, page, await _with_inherited(db, at), params.query)


@router.get("/projects/{id}/members/all/{user_id}")
async def read_any_member(at: Read, db: Db, forge: TheForge, user_id: UserId) -> Response:
    return Json(await _entity(db, forge, *await _one(db, await _with_inherited(db, at), user_id)))


@router.get("/projects/{id}/members/{user_id}")
async def read_member(at: Read, db: Db, forge: TheForge, user_id: UserId) -> Response:
    return Json(await _entity(db, forge, *await _one(db, _direct(at), user_id)))


@router.post("/projects/{id}/members")
async def add_member(
    at: Administer, db: Db, forge: TheForge, params: Annotated[AddMember, Params(AddMember)]
) -> Response:
    """409 for somebody who is a member already; nobody gives more than he has."""
    if (params.user_id is None) == (params.username is None):
        raise InvalidParams("user_id, username are missing, exactly one parameter must be provided")
    user = await find_user(db, str(params.user_id) if params.user_id is not None else params.username or "")
    if user is None:
        raise NotFound("User")
    if (await db.execute(_direct(at).where(User.id == user.id))).first() is not None:
        raise Conflict("Member already exists")
    _require_grantable(at, params.access_level, params.expires_at)
    member = Member(
        user_id=user.id,
        project_id=at.project.id,
        access_level=params.access_level,
        expires_at=params.expires_at,
        created_by_id=at.who.require_user().id,
    )
    db.add(member)
    await db.flush()
    await db.refresh(member)
    return Json(await _entity(db, forge, member, user), 201)


def _require_grantable(at: ProjectAccess, level: int, expires_at: date | None) -> None:
    if level > min(at.standing.level, Level.OWNER):
        raise Forbidden
    if expires_at is not None and expires_at < datetime.now(UTC).date():
        raise InvalidRecord({"expires_at": ["cannot be a date in the past"]})


@router.put("/projects/{id}/members/{user_id}")
async def change_member(
    at: Administer,
    db: Db,
    forge: TheForge,
    user_id: UserId,
    params: Annotated[ChangeMember, Params(ChangeMember)],
) -> Response:
    member, user = await _one(db, _direct(at), user_id)
    _require_grantable(at, max(params.access_level, member.access_level), params.expires_at)
    member.access_level = params.access_level
    if "expires_at" in params.model_fields_set:
        member.expires_at = params.expires_at
    await db.flush()
    return Json(await _entity(db, forge, member, user))


@router.delete("/projects/{id}/members/{user_id}")
async def remove_member(at: Leave, db: Db, user_id: UserId) -> Response:
    """Maintainers remove members up to their own level; everybody may leave. A user's own project keeps him."""
    member, user = await _one(db, _direct(at), user_id)
    if at.project.namespace.owner_id == user.id:
        raise BadRequest(message="The owner of a personal project cannot be removed")
    if at.user is None or at.user.id != user.id:
        at.require(Ability.ADMIN_MEMBER)
        _require_grantable(at, member.access_level, None)
    await db.delete(member)
    await db.flush()
    return no_content()
