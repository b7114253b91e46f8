"""`/users/:id/…`: blocking, deactivating, banning, approving. For administrators.

Source: doc/api/user_moderation.md, gitlabhq lib/api/users.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.params import path_id
from nautilus_forge.responses import Json
from nautilus_forge.users import entities, moderation, queries, removal

router = APIRouter()

UserId = Annotated[int, Depends(path_id("id", "User"))]


@router.post("/users/{id}/block")
async def block_user(who: Admin, db: Db, id: UserId) -> Response:
    """Nobody blocks himself."""
    user = await queries.existing_user(db, id)
    return Json(await moderation.block(db, who.require_user(), user) or None, 201)


@router.post("/users/{id}/unblock")
async def unblock_user(who: Admin, db: Db, id: UserId) -> Response:
    return Json(await moderation.unblock(db, await queries.existing_user(db, id)), 201)


@router.post("/users/{id}/deactivate")
async def deactivate_user(who: Admin, db: Db, id: UserId) -> Response:
    """Only somebody who was not there for 90 days."""
    user = await queries.existing_user(db, id)
    return Json(await moderation.deactivate(db, user) or None, 201)


@router.post("/users/{id}/activate")
async def activate_user(who: Admin, db: Db, id: UserId) -> Response:
    await moderation.activate(db, await queries.existing_user(db, id))
    return Json(True, 201)


@router.post("/users/{id}/ban")
async def ban_user(who: Admin, db: Db, id: UserId) -> Response:
    await moderation.ban(db, await queries.existing_user(db, id))
    return Json(True, 201)


@router.post("/users/{id}/unban")
async def unban_user(who: Admin, db: Db, id: UserId) -> Response:
    await moderation.unban(db, await queries.existing_user(db, id))
    return Json(True, 201)


@router.post("/users/{id}/approve")
async def approve_user(who: Admin, db: Db, id: UserId) -> Response:
    await moderation.approve(db, await queries.existing_user(db, id))
    return Json({"message": "Success"}, 201)


@router.post("/users/{id}/reject")
async def reject_user(who: Admin, db: Db, forge: TheForge, id: UserId) -> Response:
    """The account that waits for approval is removed."""
    user = await queries.existing_user(db, id)
    moderation.require_pending(user)
    shown = entities.user_basic(forge.settings, user)
    await removal.remove_user(db, forge, user, hard=True)
    return Json(shown, 201)
