"""`/user/keys`, `/users/:id/keys`, `/keys`.

Source: doc/api/user_keys.md, doc/api/keys.md, gitlabhq lib/api/{users,keys}.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.auth import Admin, MaybeWho, Principal, authenticated, find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Key, User
from nautilus_forge.errors import NotFound
from nautilus_forge.keys import entities, service
from nautilus_forge.keys.params import AddKey
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id, path_text
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.queries import existing_user

router = APIRouter()
pages = APIRouter()

KeyId = Annotated[int, Depends(path_id("key_id", "Key"))]
UserId = Annotated[int, Depends(path_id("user_id", "User"))]
UserName = Annotated[str, Depends(path_text("user_id"))]
Reader = Annotated[Principal, Depends(authenticated("api", "read_api", "read_user"))]
Writer = Annotated[Principal, Depends(authenticated())]
Adding = Annotated[AddKey, Params(AddKey)]


class Fingerprint(ParamModel):
    fingerprint: str


@router.get("/user/keys")
async def list_own(who: Reader, db: Db, forge: TheForge, page: Paged) -> Response:
    user = who.require_user()
    return await page.of(
        db, service.keys_of(user.id), lambda key: entities.ssh_key(forge.settings, key, user)
    )


@router.get("/user/keys/{key_id}")
async def read_own(who: Reader, db: Db, forge: TheForge, key_id: KeyId) -> Response:
    user = who.require_user()
    return Json(entities.ssh_key(forge.settings, await _key(db, user.id, key_id), user))


@router.post("/user/keys")
async def add_own(who: Writer, db: Db, forge: TheForge, params: Adding) -> Response:
    user = who.require_user()
    key = await service.add_key(db, user, params.new())
    return Json(entities.ssh_key(forge.settings, key, user), 201)


@router.delete("/user/keys/{key_id}")
async def remove_own(who: Writer, db: Db, key_id: KeyId) -> Response:
    await db.delete(await _key(db, who.require_user().id, key_id))
    return no_content()


@router.get("/users/{user_id}/keys")
async def list_of_user(who: MaybeWho, db: Db, forge: TheForge, page: Paged, user_id: UserName) -> Response:
    """By id or name, for everybody: a public key is no secret."""
    user = await _user(db, user_id)
    return await page.of(
        db, service.keys_of(user.id), lambda key: entities.ssh_key(forge.settings, key, user)
    )


@router.get("/users/{user_id}/keys/{key_id}")
async def read_of_user(who: MaybeWho, db: Db, forge: TheForge, user_id: UserName, key_id: KeyId) -> Response:
    user = await _user(db, user_id)
    return Json(entities.ssh_key(forge.settings, await _key(db, user.id, key_id), user))


@router.post("/users/{user_id}/keys")
async def add_to_user(who: Admin, db: Db, forge: TheForge, user_id: UserId, params: Adding) -> Response:
    user = await existing_user(db, user_id)
    key = await service.add_key(db, user, params.new())
    return Json(entities.ssh_key(forge.settings, key, user), 201)


@router.delete("/users/{user_id}/keys/{key_id}")
async def remove_from_user(who: Admin, db: Db, user_id: UserId, key_id: KeyId) -> Response:
    user = await existing_user(db, user_id)
    await db.delete(await _key(db, user.id, key_id))
    return no_content()


@router.get("/keys")
async def find_key(
    who: Admin, db: Db, forge: TheForge, params: Annotated[Fingerprint, Params(Fingerprint)]
) -> Response:
    """Source: doc/api/keys.md ("Get user by fingerprint of SSH key"); deploy keys too."""
    key = await service.by_fingerprint(db, params.fingerprint)
    if key is None:
        raise NotFound("Key")
    return Json(entities.ssh_key_with_user(forge.settings, key, await service.owner_of(db, key)))


@router.get("/keys/{key_id}")
async def read_key(who: Admin, db: Db, forge: TheForge, key_id: KeyId) -> Response:
    key = await db.get(Key, key_id)
    if key is None:
        raise NotFound("Key")
    return Json(entities.ssh_key_with_user(forge.settings, key, await service.owner_of(db, key)))


@pages.get("/{username}.keys")
async def authorized_keys_of(
    db: Db, forge: TheForge, username: Annotated[str, Depends(path_text("username"))]
) -> Response:
    """All keys of a user that let in, one a line, as `ssh-import-id` reads them.

    Source: gitlabhq config/routes/user.rb, app/controllers/users_controller.rb (`ssh_keys`).
    """
    user = await _user(db, username)
    keys = (await db.scalars(service.keys_of(user.id))).all()
    lines = [entities.publishable(forge.settings, key, user) for key in keys if key.usage_type != "signing"]
    return PlainTextResponse("\n".join(lines))


async def _user(db: AsyncSession, id_or_username: str) -> User:
    user = await find_user(db, id_or_username)
    if user is None:
        raise NotFound("User")
    return user


async def _key(db: AsyncSession, user_id: int, key_id: int) -> Key:
    key = await service.key_of_user(db, user_id, key_id)
    if key is None:
        raise NotFound("Key")
    return key
