"""`/:project.git/info/lfs/locks`.

Source: git-lfs docs/api/locking.md, gitlabhq app/controllers/repositories/lfs_locks_api_controller.rb.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import LfsFileLock, User
from nautilus_forge.internal.git_access import Denied
from nautilus_forge.lfs import locks
from nautilus_forge.lfs.access import Caller, admitted
from nautilus_forge.lfs.answers import (
    LfsConflict,
    LfsForbidden,
    LfsNotFound,
    LfsUnprocessable,
    lfs_body,
    lfs_json,
    refused,
)
from nautilus_forge.params import MAX_ID

router = APIRouter()

_MOST = 1000
"""Locks of one page, where the client does not ask for fewer."""
_NO_PERMISSIONS = "You have no permissions"


@router.post("/{project:path}.git/info/lfs/locks")
async def create(request: Request, db: Db) -> Response:
    """201; 409 with the lock that stands in the way; 403 for what is no user (a deploy key)."""
    caller = await _admitted(request, db, is_upload=True)
    if isinstance(caller, Denied):
        return refused(caller)
    user = _user(request, caller)
    path = (await lfs_body(request)).get("path")
    if not isinstance(path, str) or not path.strip():
        raise LfsUnprocessable(request, "Validation failed: Path can't be blank")
    if len(path) > locks.LONGEST_PATH or "\0" in path:
        raise LfsUnprocessable(request, "Validation failed: Path is too long (maximum is 511 characters)")
    lock, is_new = await locks.lock(db, caller.project.id, user, path)
    owner = await db.get_one(User, lock.user_id)
    shown = {"lock": locks.entity(lock, owner)}
    if not is_new:
        raise LfsConflict(request, "already locked", shown)
    return lfs_json(shown, 201)


@router.get("/{project:path}.git/info/lfs/locks")
async def index(request: Request, db: Db) -> Response:
    """`path`, `id`, `limit` and `cursor` are honoured; locks hold on every ref, so `refspec` is not."""
    caller = await _admitted(request, db, is_upload=False)
    if isinstance(caller, Denied):
        return refused(caller)
    query = request.query_params
    limit, cursor = _limit(request, query.get("limit")), _number(request, "cursor", query.get("cursor"))
    lock_id = _number(request, "id", query.get("id"))
    found = await locks.page(
        db,
        caller.project.id,
        after=cursor or 0,
        limit=limit + 1,
        path=query.get("path", ""),
        lock_id=lock_id,
    )
    return lfs_json({"locks": [locks.entity(*one) for one in found[:limit]], **_next(found, limit)})


@router.post("/{project:path}.git/info/lfs/locks/verify")
async def verify(request: Request, db: Db) -> Response:
    """All locks, apart by whether they are the caller's own: what git-lfs asks before a push."""
    caller = await _admitted(request, db, is_upload=True)
    if isinstance(caller, Denied):
        return refused(caller)
    asked = await lfs_body(request)
    limit, cursor = _limit(request, asked.get("limit")), _number(request, "cursor", asked.get("cursor"))
    found = await locks.page(db, caller.project.id, after=cursor or 0, limit=limit + 1)
    own = caller.who.user.id if caller.who.user is not None else 0
    ours = [locks.entity(*one) for one in found[:limit] if one[0].user_id == own]
    theirs = [locks.entity(*one) for one in found[:limit] if one[0].user_id != own]
    return lfs_json({"ours": ours, "theirs": theirs, **_next(found, limit)})


@router.post("/{project:path}.git/info/lfs/locks/{id}/unlock")
async def unlock(request: Request, db: Db) -> Response:
    """200 with the lock that is no more; its owner may, and with `force` whoever maintains the project."""
    caller = await _admitted(request, db, is_upload=True)
    if isinstance(caller, Denied):
        return refused(caller)
    user = _user(request, caller)
    is_forced = (await lfs_body(request)).get("force") is True
    lock_id = _number(request, "id", request.path_params["id"])
    lock = await locks.find(db, caller.project.id, lock_id) if lock_id is not None else None
    if lock is None:
        raise LfsNotFound(request, "Lock not found")
    _require_unlock(request, caller, user, lock, is_forced=is_forced)
    owner = await db.get_one(User, lock.user_id)
    await db.delete(lock)
    return lfs_json({"lock": locks.entity(lock, owner)})


def _require_unlock(
    request: Request, caller: Caller, user: User, lock: LfsFileLock, *, is_forced: bool
) -> None:
    """Raises `LfsForbidden`."""
    if lock.user_id == user.id or (is_forced and caller.can_unlock_all):
        return
    if is_forced:
        raise LfsForbidden(request, "You must have maintainer access to force delete a lock")
    raise LfsForbidden(request, f"{lock.path} is locked by GitLab User {lock.user_id}")


async def _admitted(request: Request, db: AsyncSession, *, is_upload: bool) -> Caller | Denied:
    return await admitted(request, db, unquote(request.path_params["project"]), is_upload=is_upload)


def _user(request: Request, caller: Caller) -> User:
    if caller.who.user is None:
        raise LfsForbidden(request, _NO_PERMISSIONS)
    return caller.who.user


def _limit(request: Request, given: Any) -> int:
    limit = _number(request, "limit", given)
    return min(limit, _MOST) if limit else _MOST


def _number(request: Request, name: str, given: Any) -> int | None:
    """None where nothing was given. Raises `LfsUnprocessable` for what is no row's number."""
    if given in (None, ""):
        return None
    text = str(given)
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > MAX_ID:
        raise LfsUnprocessable(request, f"{name} is invalid")
    return int(text)


def _next(found: Any, limit: int) -> dict[str, str]:
    """`next_cursor`, where there is more."""
    return {"next_cursor": str(found[limit - 1][0].id)} if len(found) > limit else {}
