"""`/:project.git/info/lfs/objects/batch`: which objects are to be transferred, and where.

Source: git-lfs docs/api/batch.md, gitlabhq app/controllers/repositories/lfs_api_controller.rb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, forge_of
from nautilus_forge.db.models import LfsObject
from nautilus_forge.internal.git_access import Denied
from nautilus_forge.lfs.access import Caller, admitted, transfer_header
from nautilus_forge.lfs.answers import (
    LfsConflict,
    LfsDeprecated,
    LfsNotFound,
    LfsUnprocessable,
    lfs_body,
    lfs_json,
    refused,
)
from nautilus_forge.lfs.forks import take_from_source
from nautilus_forge.lfs.objects import objects_of
from nautilus_forge.projects.entities import http_url

router = APIRouter()

_OID = re.compile(r"[0-9a-f]{64}")
_LARGEST = (1 << 63) - 1
_ABSENT = "Object does not exist on the server or you don't have permissions to access it"
_INVALID = "The object's id must be a SHA-256 in hex, its size a number of bytes"
_NO_ROOM = "No space left for LFS objects"

Wanted = dict[str, Any]


@router.post("/{project:path}.git/info/lfs/objects/batch")
async def batch(request: Request, db: Db) -> Response:
    """200 with an action or an error for each object; 401, 403, 404 (none asked for too), 409, 422."""
    asked = await lfs_body(request)
    operation = asked.get("operation")
    caller = await admitted(
        request, db, unquote(request.path_params["project"]), is_upload=operation != "download"
    )
    if isinstance(caller, Denied):
        return refused(caller)
    if operation not in ("download", "upload"):
        raise LfsNotFound(request)
    if asked.get("hash_algo", "sha256") != "sha256":
        raise LfsConflict(request, "This server knows objects by their SHA-256 only")
    wanted = asked.get("objects")
    if not wanted:
        raise LfsNotFound(request)
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise LfsUnprocessable(request, "objects must be a list of objects")
    return lfs_json({"objects": await _answered(request, db, caller, operation, wanted)})


async def _answered(
    request: Request, db: AsyncSession, caller: Caller, operation: str, wanted: list[Wanted]
) -> list[Wanted]:
    header, expires_in_s = transfer_header(request, caller, "upload" if operation == "upload" else "download")
    oids = {one["oid"] for one in wanted if _is_valid(one)}
    known = await objects_of(db, caller.project.id, oids)
    if operation == "upload" and caller.project.forked_from_id is not None and oids - known.keys():
        await take_from_source(db, caller.who, caller.project, oids - known.keys())
        known = await objects_of(db, caller.project.id, oids)
    actions = Actions(http_url(forge_of(request).settings, caller.project), header, expires_in_s)
    if operation == "download":
        return [_download(actions, one, known, is_public=caller.is_public) for one in wanted]
    store = forge_of(request).lfs.store
    has_room = store.has_room(
        sum(one["size"] for one in wanted if _is_valid(one) and one["oid"] not in known)
    )
    return [_upload(actions, one, known, has_room=has_room) for one in wanted]


class Actions:
    """What a client is to do with one object, as it is told."""

    def __init__(self, base: str, header: str | None, expires_in_s: int | None) -> None:
        self._base = base
        self._header = {"Authorization": header} if header else {}
        self._expiry = {"expires_in": expires_in_s} if expires_in_s is not None else {}

    def download(self, one: Wanted) -> Wanted:
        return {"download": self._action(f"gitlab-lfs/objects/{one['oid']}", {})}

    def upload(self, one: Wanted) -> Wanted:
        """git-lfs sets the content type by the file's name, unless it is told."""
        more = {"Content-Type": "application/octet-stream", "Transfer-Encoding": "chunked"}
        return {
            "upload": self._action(f"gitlab-lfs/objects/{one['oid']}/{one['size']}", more),
            "verify": self._action("info/lfs/objects/verify", {}),
        }

    def _action(self, path: str, more: Mapping[str, str]) -> Wanted:
        return {"href": f"{self._base}/{path}", "header": {**self._header, **more}, **self._expiry}


def _download(actions: Actions, one: Wanted, known: Mapping[str, LfsObject], *, is_public: bool) -> Wanted:
    if not _is_valid(one):
        return _failed(one, 422, _INVALID)
    if one["oid"] not in known:
        return _failed(one, 404, _ABSENT)
    public = {"authenticated": True} if is_public else {}
    return {"oid": one["oid"], "size": one["size"], "actions": actions.download(one), **public}


def _upload(actions: Actions, one: Wanted, known: Mapping[str, LfsObject], *, has_room: bool) -> Wanted:
    """Nothing to do for what the project has already."""
    if not _is_valid(one):
        return _failed(one, 422, _INVALID)
    if one["oid"] in known:
        return {"oid": one["oid"], "size": one["size"]}
    if not has_room:
        return _failed(one, 507, _NO_ROOM)
    return {"oid": one["oid"], "size": one["size"], "actions": actions.upload(one)}


def _failed(one: Wanted, code: int, message: str) -> Wanted:
    shown = {name: one[name] for name in ("oid", "size") if isinstance(one.get(name), str | int)}
    return {**shown, "error": {"code": code, "message": message}}


def _is_valid(one: Wanted) -> bool:
    oid, size = one.get("oid"), one.get("size")
    is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= _LARGEST
    return isinstance(oid, str) and _OID.fullmatch(oid) is not None and is_size


@router.post("/{project:path}.git/info/lfs/objects")
async def old_upload(request: Request) -> Response:
    raise LfsDeprecated(request)


@router.get("/{project:path}.git/info/lfs/objects/{oid}")
async def old_download(request: Request) -> Response:
    raise LfsDeprecated(request)
