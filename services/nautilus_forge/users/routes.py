"""`/user` and `/users`.

Source: doc/api/users.md, gitlabhq lib/api/users.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge import cursors
from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import Admin, Principal, authenticated
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import User
from nautilus_forge.errors import Forbidden, InvalidParams, Unauthorized
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id
from nautilus_forge.registry import renaming
from nautilus_forge.responses import Json, no_content
from nautilus_forge.settings import Settings
from nautilus_forge.tokens import secret
from nautilus_forge.users import entities, queries, removal, service
from nautilus_forge.users.attributes import DEFAULTS, PREFERENCES
from nautilus_forge.users.listing import ListUsers, filtered

router = APIRouter()

UserId = Annotated[int, Depends(path_id("id", "User"))]
Reader = Annotated[Principal, Depends(authenticated("api", "read_api", "read_user"))]
MaybeReader = Annotated[Principal, Depends(authenticated("api", "read_api", "read_user", anonymous=True))]
Myself = Annotated[
    Principal, Depends(authenticated("api", "read_api", "read_user", "openid", "profile", "email"))
]


class Profile(ParamModel):
    """What may be set at creation and changed later. Unset means unchanged."""

    bio: str = Field(default="", max_length=255)
    location: str = Field(default="", max_length=255)
    organization: str = Field(default="", max_length=500)
    job_title: str = Field(default="", max_length=255)
    website_url: str = ""
    public_email: str = ""
    projects_limit: int = Field(default=100_000, ge=0, le=(1 << 31) - 1)
    can_create_group: bool = True
    admin: bool = False
    external: bool = False
    skype: str = ""
    linkedin: str = ""
    twitter: str = ""
    discord: str = ""
    pronouns: str | None = None
    note: str | None = None
    private_profile: bool | None = None
    commit_email: str | None = None
    theme_id: int | None = Field(default=None, ge=1, le=11)
    color_scheme_id: int | None = Field(default=None, ge=1, le=6)
    view_diffs_file_by_file: bool = False


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


def _fill(user: User, params: Profile) -> None:
    """Put what was sent where it belongs: a column, an attribute or a preference."""
    given = {name: value for name, value in params.given().items() if name in Profile.model_fields}
    kept = dict(user.attributes)
    for name, value in given.items():
        if name in DEFAULTS:
            kept[name] = value
        elif name in PREFERENCES:
            user.preferences = user.preferences | {name: value}
        elif value is not None:
            setattr(user, _COLUMNS.get(name, name), value)
    user.attributes = {name: value for name, value in kept.items() if value is not None}


async def _for_admin(db: AsyncSession, settings: Settings, users: Sequence[User]) -> list[dict[str, Any]]:
    namespaces = await queries.namespace_ids(db, users)
    creators = await queries.creators(db, users)
    return [
        entities.user_with_admin(
            settings, user, namespaces.get(user.id), creators.get(user.created_by_id or 0)
        )
        for user in users
    ]


@router.get("/user")
async def read_myself(who: Myself, db: Db, forge: TheForge) -> Response:
    """Source: doc/api/users.md ("Get the current user"). Administrators see `is_admin` too."""
    user = who.require_user()
    if user.is_admin:
        return Json((await _for_admin(db, forge.settings, [user]))[0])
    return Json(entities.user_public(forge.settings, user))


@router.get("/users")
async def list_users(
    who: MaybeReader, db: Db, forge: TheForge, page: Paged, params: Annotated[ListUsers, Params(ListUsers)]
) -> Response:
    """Source: doc/api/users.md ("List all users"). Nobody may ask for one `username` alone."""
    is_admin = who.user is not None and who.user.is_admin
    if (params.extern_uid is None) != (params.provider is None):
        raise InvalidParams("extern_uid, provider provide all or none of parameters")
    if params.provider is not None and not is_admin:
        raise Forbidden if who.user is not None else Unauthorized
    if who.user is None and params.username is None:
        raise Forbidden("Not authorized to access /api/v4/users")
    statement = filtered(params, is_admin=is_admin)
    if is_admin and params.is_keyset:
        key, ascending = queries.key_of(params.order_by), params.sort == "asc"
        rows, headers = await cursors.ordered(db, page, params, statement, key, is_ascending=ascending)
        return Json(await _for_admin(db, forge.settings, rows), headers=headers)
    statement = queries.ordered(statement, *((params.order_by, params.sort) if is_admin else ("id", "desc")))
    if not is_admin:
        return await page.of(db, statement, lambda user: entities.user_basic(forge.settings, user))
    total = await page.count(db, statement)
    found = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond(await _for_admin(db, forge.settings, found), total)


@router.get("/users/{id}")
async def read_user(who: Reader, db: Db, forge: TheForge, id: UserId) -> Response:
    """Source: doc/api/users.md ("Get a single user")."""
    user = await queries.existing_user(db, id)
    if who.require_user().is_admin:
        return Json((await _for_admin(db, forge.settings, [user]))[0])
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
    user.is_external = settings.user_default_external
    user.projects_limit = settings.default_projects_limit
    user.can_create_group = settings.can_create_group
    user.created_by_id = who.require_user().id
    _fill(user, params)
    await db.flush()
    return Json((await _for_admin(db, forge.settings, [user]))[0], 201)


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
    _fill(user, params)
    await db.flush()
    await db.refresh(user)
    if is_renamed:
        await renaming.follow_user(db, user)
    return Json((await _for_admin(db, forge.settings, [user]))[0])


class DeleteUser(ParamModel):
    hard_delete: bool = False


@router.delete("/users/{id}")
async def delete_user(
    who: Admin, db: Db, forge: TheForge, id: UserId, params: Annotated[DeleteUser, Params(DeleteUser)]
) -> Response:
    """Source: doc/api/users.md ("Delete a user"). His projects go with him; the last administrator stays.

    With `hard_delete` the groups that nobody else owns go too; without it they keep him (409).
    """
    user = await queries.existing_user(db, id)
    await removal.remove_user(db, forge, user, hard=params.hard_delete)
    return no_content()
