"""`/:project.git/gitlab-lfs/objects/…`: the bytes of LFS objects, up and down.

Through the gateway neither direction passes through here: an upload has been spooled by nginx after it asked
(`may_upload`), a download goes out by `X-Accel-Redirect`.

Source: gitlabhq app/controllers/repositories/lfs_storage_controller.rb, config/routes/git_http.rb.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.db.dependency import forge_of
from nautilus_forge.errors import Forbidden, InsufficientStorage, PayloadTooLarge, Unauthorized
from nautilus_forge.following import WORTHWHILE
from nautilus_forge.internal.git_access import Denied
from nautilus_forge.lfs import objects
from nautilus_forge.lfs.access import Caller, admitted
from nautilus_forge.lfs.answers import MEDIA_TYPE, LfsNotFound, LfsUnprocessable, lfs_body, lfs_json, refused
from nautilus_forge.lfs.half import Lfs
from nautilus_forge.lfs.sending import sent
from nautilus_forge.spool import Body, body_of, is_spooled

router = APIRouter()

_UPLOAD = re.compile(
    r"/(?P<project>[^?]+)\.git/gitlab-lfs/objects/(?P<oid>[0-9a-f]{64})/(?P<size>[0-9]{1,19})"
)
_OID = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,19}")


async def may_upload(request: Request, method: str, path: str) -> bool:
    """The gateway's question (`ports.UploadGate`). Raises `Unauthorized`, `LfsForbidden`, `LfsNotFound`, and
    `Forbidden` where there is no room for what is announced (the upload's own route says so, with a 507).
    """
    match = _UPLOAD.fullmatch(path)
    if match is None or method != "PUT":
        return False
    if isinstance(await _admitted(request, match["project"], is_upload=True), Denied):
        raise Unauthorized
    if not await _has_room(request, int(match["size"])):
        raise Forbidden
    if int(match["size"]) >= WORTHWHILE:
        forge_of(request).lfs.following.expect()
    return True


@router.put("/{project:path}.git/gitlab-lfs/objects/{oid}/{size}")
async def upload(request: Request) -> Response:
    """200; 400 where the bytes are not what the URL says; 401, 403, 404, 507."""
    forge = forge_of(request)
    oid, size = request.path_params["oid"], request.path_params["size"]
    if not _OID.fullmatch(oid) or not _SIZE.fullmatch(size):
        raise LfsNotFound(request)
    caller = await _admitted(request, _project_of(request), is_upload=True)
    if isinstance(caller, Denied):
        return refused(caller)
    if not await _has_room(request, int(size)):
        raise InsufficientStorage("No space left for LFS objects")
    try:
        async with body_of(request, forge.settings, int(size)) as body:
            if not await _is_what_it_says(forge.lfs, body, oid, int(size)):
                return PlainTextResponse("SHA256 or size mismatch", 400)
            await objects.keep(forge, caller.project.id, oid, int(size), body)
    except PayloadTooLarge:
        return PlainTextResponse("SHA256 or size mismatch", 400)
    return Response(status_code=200, media_type=MEDIA_TYPE)


@router.get("/{project:path}.git/gitlab-lfs/objects/{oid}")
async def download(request: Request) -> Response:
    """The object's bytes, in ranges too; 404 where the project has no such object, whoever else has one."""
    forge, oid = forge_of(request), request.path_params["oid"]
    async with forge.database.unit_of_work() as db:
        caller = await admitted(request, db, _project_of(request), is_upload=False)
        if isinstance(caller, Denied):
            return refused(caller)
        stored = (await objects.objects_of(db, caller.project.id, [oid])).get(oid)
    answer = await sent(request, stored) if stored is not None else None
    if answer is None:
        raise LfsNotFound(request)
    return answer


@router.post("/{project:path}.git/info/lfs/objects/verify")
async def verify(request: Request) -> Response:
    """Has the upload arrived? 200, or 404. (The batch API's third action; GitLab offers none.)"""
    forge = forge_of(request)
    async with forge.database.unit_of_work() as db:
        caller = await admitted(request, db, _project_of(request), is_upload=True)
        if isinstance(caller, Denied):
            return refused(caller)
        asked = await lfs_body(request)
        oid, size = asked.get("oid"), asked.get("size")
        if not isinstance(oid, str) or not isinstance(size, int):
            raise LfsUnprocessable(request, "oid and size are required")
        stored = (await objects.objects_of(db, caller.project.id, [oid])).get(oid)
    if stored is None or stored.size != size:
        raise LfsNotFound(request)
    return lfs_json({"oid": oid, "size": size})


async def _admitted(request: Request, project: str, *, is_upload: bool) -> Caller | Denied:
    """With a connection for just this long: an upload's hash may take minutes."""
    async with forge_of(request).database.unit_of_work() as db:
        return await admitted(request, db, project, is_upload=is_upload)


async def _is_what_it_says(lfs: Lfs, body: Body, oid: str, size: int) -> bool:
    """What is still to go to the disk goes there beside the rest of the hash. Raises `InsufficientStorage`."""

    def check() -> bool:
        return lfs.store.is_what_it_says(body, oid, size, lfs.following.take(body))

    writing = asyncio.create_task(asyncio.to_thread(lfs.store.write_out, body))
    try:
        return await asyncio.to_thread(check)
    finally:
        await writing


async def _has_room(request: Request, size: int) -> bool:
    """What the gateway has taken in already needs no further room."""
    return is_spooled(request) or await asyncio.to_thread(forge_of(request).lfs.store.has_room, size)


def _project_of(request: Request) -> str:
    return unquote(request.path_params["project"])
