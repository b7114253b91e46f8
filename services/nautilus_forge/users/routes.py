"""`/user` and `/users`.

Source: doc/api/users.md, gitlabhq lib/api/users.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import Admin, MaybeWho, Principal, authenticated
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import User
from nautilus_forge.errors import Forbidden
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id
from nautilus_forge.registry import renaming
from nautilus_forge.responses import Json, no_content
from nautilus_forge.settings import Settings
from nautilus_forge.tokens import secret
from nautilus_forge.users import entities, queries, removal, service

router = APIRouter()

UserId = Annotated[int, Depends(path_id("id", "User"))]
Reader = Annotated[Principal, Depends(authenticated("api", "read_api", "read_user"))]
Myself = Annotated[
    Principal, Depends(authenticated("api", "read_api", "read_user", "openid", "profile", "email"))
]


class ListUsers(ParamModel):
    username: str | None = None
    search: str | None = None
    active: bool = False
    blocked: bool = False
    external: bool | None = None
    admins: bool = False
    humans: bool = False
    order_by: Literal["id", "name", "username", "created_at", "updated_at"] = "id"
    sort: Literal["asc", "desc"] = "desc"


class Profile(ParamModel):
    """What may be set at creation and changed later. Unset means unchanged."""

    bio: str = ""
    location: str = ""
    organization: str = ""
    job_title: str = ""
    website_url: str = ""
    public_email: str = ""
    projects_limit: int = 100_000
    can_create_group: bool = True
    admin: bool = False
    external: bool = False


class CreateUser(Profile):
    email: str
    name: str
    username: str
    password: SecretStr | None = None
    reset_password: bool = False
    force_random_password: bool = False


class ChangeUser(Profile):
    email: str | None = None
    name: str | None = None
    username: str | None = None
    password: SecretStr | None = None


_COLUMNS = {"admin": "is_admin", "external": "is_external"}


def _profile(params: Profile) -> dict[str, Any]:
    given = {name: value for name, value in params.given().items() if name in Profile.model_fields}
    return {_COLUMNS.get(name, name): value for name, value in given.items() if value is not None}


async def _for_admin(db: AsyncSession, settings: Settings, user: User) -> dict[str, Any]:
    return entities.user_with_admin(settings, user, await queries.namespace_id_of(db, user))


@router.get("/user")
async def read_myself(who: Myself, db: Db, forge: TheForge) -> Response:
    """Source: doc/api/users.md ("Get the current user"). Administrators see `is_admin` too."""
    user = who.require_user()
    if user.is_admin:
        return Json(await _for_admin(db, forge.settings, user))
    return Json(entities.user_public(forge.settings, user))


@router.get("/users")
async def list_users(
    who: MaybeWho, db: Db, forge: TheForge, page: Paged, params: Annotated[ListUsers, Params(ListUsers)]
) -> Response:
    """Source: doc/api/users.md ("List all users"). Nobody may ask for one `username` alone."""
    if who.user is None and params.username is None:
        raise Forbidden("Not authorized to access /api/v4/users")
    is_admin = who.user is not None and who.user.is_admin
    statement = queries.matching(params.search, by_email=is_admin) if params.search else select(User)
    if params.username is not None:
        statement = statement.where(func.lower(User.username) == params.username.lower())
    if params.active:
        statement = statement.where(User.state == "active")
    if params.blocked:
        statement = statement.where(User.state == "blocked")
    if params.humans:
        statement = statement.where(User.is_bot.is_(False))
    if is_admin and params.admins:
        statement = statement.where(User.is_admin)
    if is_admin and params.external is not None:
        statement = statement.where(User.is_external.is_(params.external))
    statement = queries.ordered(statement, params.order_by, params.sort)
    if not is_admin:
        return await page.of(db, statement, lambda user: entities.user_basic(forge.settings, user))
    return await page.of(db, statement, lambda user: entities.user_with_admin(forge.settings, user, None))


@router.get("/users/{id}")
async def read_user(who: Reader, db: Db, forge: TheForge, id: UserId) -> Response:
    """Source: doc/api/users.md ("Get a single user")."""
    user = await queries.existing_user(db, id)
    if who.require_user().is_admin:
        return Json(await _for_admin(db, forge.settings, user))
    return Json(entities.user_shown(forge.settings, user))


@router.post("/users")
async def create_user(
    who: Admin, db: Db, forge: TheForge, params: Annotated[CreateUser, Params(CreateUser)]
) -> Response:
    """Source: doc/api/users.md ("Create a user"). One of the three ways to a password must be named."""
    password = params.password
    if password is None:
        if not (params.reset_password or params.force_random_password):
            raise service.missing_password()
        password = SecretStr(secret.generate())
    settings = await current_values(db)
    user = await service.create_user(
        db,
        username=params.username,
        name=params.name,
        email=params.email,
        password=password,
        minimum_password_length=settings.minimum_password_length,
    )
    for column, value in _profile(params).items():
        setattr(user, column, value)
    await db.flush()
    return Json(await _for_admin(db, forge.settings, user), 201)


@router.put("/users/{id}")
async def change_user(
    who: Admin, db: Db, forge: TheForge, id: UserId, params: Annotated[ChangeUser, Params(ChangeUser)]
) -> Response:
    """Source: doc/api/users.md ("Modify a user"). A new password signs the user out everywhere."""
    user = await queries.existing_user(db, id)
    settings = await current_values(db)
    is_renamed = params.username is not None and params.username != user.username
    if is_renamed:
        await renaming.refuse_user(db, forge, user)
    await service.change_account(
        db,
        user,
        username=params.username,
        name=params.name,
        email=params.email,
        password=params.password,
        minimum_password_length=settings.minimum_password_length,
    )
    for column, value in _profile(params).items():
        setattr(user, column, value)
    await db.flush()
    await db.refresh(user)
    if is_renamed:
        await renaming.follow_user(db, user)
    return Json(await _for_admin(db, forge.settings, user))


@router.delete("/users/{id}")
async def delete_user(who: Admin, db: Db, forge: TheForge, id: UserId) -> Response:
    """Source: doc/api/users.md ("Delete a user"). His projects go with him; the last administrator stays."""
    user = await queries.existing_user(db, id)
    await removal.remove_user(db, forge, user)
    return no_content()


@router.post("/users/{id}/block")
async def block_user(who: Admin, db: Db, id: UserId) -> Response:
    """Source: doc/api/user_moderation.md. Nobody blocks himself."""
    user = await queries.existing_user(db, id)
    if who.require_user().id == user.id:
        raise Forbidden("The current user cannot be blocked via API")
    await service.set_state(db, user, "blocked")
    return Json(True, 201)


@router.post("/users/{id}/unblock")
async def unblock_user(who: Admin, db: Db, id: UserId) -> Response:
    """Source: doc/api/user_moderation.md."""
    await service.set_state(db, await queries.existing_user(db, id), "active")
    return Json(True, 201)
