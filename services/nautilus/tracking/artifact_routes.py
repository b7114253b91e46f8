"""MLflow's artifact endpoints, and the gateway's question before an upload.

An upload that came through the gateway lies on the disk already and is taken over by path; any other is received
here. A download goes out by nginx when the request came through it.
Source: mlflow/server/handlers.py `_upload_artifact`, `_download_artifact`, `_list_artifacts_mlflow_artifacts` (3.17)
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from nautilus.core.identity import Identity
from nautilus.tracking.artifacts import Location, location, safe_names
from nautilus.tracking.call import DONE, Answer, Call, json_answer, run_id_of
from nautilus.tracking.entities import artifact_uri
from nautilus.tracking.errors import InvalidParameter, NotFound, NotImplementedHere
from nautilus.tracking.service import TrackingService
from nautilus.tracking.wire import text

PREFIX = "/api/2.0/mlflow-artifacts/artifacts/"
CHUNK_BYTES = 256 * 1024
_FILE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_MULTIPART = "Multipart upload is not supported for the current artifact repository"
_PRESIGNED_DOWNLOAD = "Presigned download is not supported for the current artifact repository"
_PRESIGNED_UPLOAD = "Presigned upload is not supported for the current artifact repository"


async def upload(call: Call) -> Answer:
    """PUT mlflow-artifacts/artifacts/<path>. Nothing of the body is read before the caller may write there."""
    where = location(call.rest[0])
    await _check_writable(call.service, call.caller, where)
    if not where.inside:
        raise InvalidParameter("Invalid path: it names no file")
    store = call.service.store
    spooled = call.header(b"x-nautilus-body-file")
    with store.incoming() as received:
        if spooled:
            await asyncio.to_thread(store.take_spooled, spooled, received)
        else:
            await _receive(call, received)
        await asyncio.to_thread(store.store, received, where)
    return DONE


async def _receive(call: Call, received: Path) -> None:
    with received.open("wb") as file:
        async for chunk in call.chunks():
            if chunk:
                await asyncio.to_thread(call.service.store.append, file, chunk)


async def authorize_upload(call: Call) -> Answer:
    """GET /internal/upload/authorize, the gateway's: 200 lets the upload come, any error sends it to `upload`."""
    uri = (call.header(b"x-original-uri") or "").partition("?")[0]
    path = unquote(uri)
    if call.header(b"x-original-method") != "PUT" or not path.startswith(PREFIX):
        raise NotFound("This is no upload.")
    where = location(path.removeprefix(PREFIX))
    await _check_writable(call.service, call.caller, where)
    return DONE


async def download(call: Call) -> Answer:
    """GET mlflow-artifacts/artifacts/<path>, with Range."""
    where = location(call.rest[0])
    await _check_readable(call.service, call.caller, where)
    path, found = await asyncio.to_thread(call.service.store.file, where)
    headers = {**_FILE_HEADERS, "Content-Disposition": disposition(where.inside[-1])}
    content_type = mimetypes.guess_type(where.inside[-1])[0] or "application/octet-stream"
    if call.header(b"x-nautilus-gateway") == "1":
        redirect = "/_management/" + quote(call.service.store.relative(path))
        return Answer(b"", content_type=content_type, headers={**headers, "X-Accel-Redirect": redirect})
    headers |= {"Accept-Ranges": "bytes", "Last-Modified": formatdate(found.st_mtime, usegmt=True)}
    return _ranged(call, path, found.st_size, content_type, headers)


def _ranged(call: Call, path: Path, size: int, content_type: str, headers: dict[str, str]) -> Answer:
    asked = call.header(b"range")
    span = byte_range(asked, size) if asked else (0, size)
    if span is None:
        return Answer(b"", 416, content_type, {**headers, "Content-Range": f"bytes */{size}"})
    start, end = span
    status = 200
    if (start, end) != (0, size):
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    if call.scope["method"] == "HEAD":
        return Answer(b"", status, content_type, headers)
    return Answer(b"", status, content_type, headers, _parts(path, start, end))


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open span that a Range header asks for; all of the file for what we do not serve (several ranges,
    other units); None where it lies outside. Source: RFC 9110 §14.1.2.
    """
    match = _RANGE.fullmatch(header.strip().replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        length = int(last)
        return (max(0, size - length), size) if length and size else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < int(first):
        return 0, size
    return (start, end) if start < size else None


async def _parts(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        left = end - start
        while left > 0:
            part = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
            if not part:
                return
            left -= len(part)
            yield part


def disposition(name: str) -> str:
    """`attachment`, with the name as RFC 6266 writes it: never opened in a page of ours."""
    plain = name.encode("ascii", "replace").decode().replace("\\", "_").replace('"', "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


async def list_root(call: Call) -> Answer:
    """GET mlflow-artifacts/artifacts?path=…: what lies in a folder, by base name."""
    where = location(text(call.fields, "path") or "")
    await _check_readable(call.service, call.caller, where)
    return json_answer(await folder_listing(call, where))


async def list_run(call: Call) -> Answer:
    """GET mlflow/artifacts/list: the same for a run, with paths from its root."""
    run = await call.service.access.readable_run(call.caller, run_id_of(call.fields))
    inside = safe_names(text(call.fields, "path") or "")
    where = Location(run.experiment_id, run.run_id, None, inside)
    listing = await folder_listing(call, where, prefix="/".join(inside))
    return json_answer({"root_uri": artifact_uri(run.experiment_id, run.run_id), **listing})


async def folder_listing(call: Call, where: Location, prefix: str = "") -> dict[str, Any]:
    """MLflow's `files`; empty where there is no such folder."""
    found = await asyncio.to_thread(call.service.store.entries, where)
    before = f"{prefix}/" if prefix else ""
    files = [
        {"path": before + info.path, "is_dir": info.is_dir}
        | ({} if info.size_bytes is None else {"file_size": info.size_bytes})
        for info in found
    ]
    return {"files": files} if files else {}


async def delete(call: Call) -> Answer:
    """DELETE mlflow-artifacts/artifacts/<path>: a file or a folder with all in it."""
    where = location(call.rest[0])
    await _check_writable(call.service, call.caller, where)
    await asyncio.to_thread(call.service.store.delete, where)
    return DONE


async def refuse_multipart(call: Call) -> Answer:
    """As MLflow's server does where its store has none: the client then sends the file whole."""
    raise NotImplementedHere(_MULTIPART)


async def refuse_presigned_download(call: Call) -> Answer:
    raise NotImplementedHere(_PRESIGNED_DOWNLOAD)


async def refuse_presigned_upload(call: Call) -> Answer:
    raise NotImplementedHere(_PRESIGNED_UPLOAD)


async def _check_readable(service: TrackingService, caller: Identity, where: Location) -> None:
    if where.run_id is not None:
        experiment_id = (await service.access.readable_run(caller, where.run_id)).experiment_id
    else:
        experiment_id = (await service.access.readable_model(caller, where.model_id or "")).experiment_id
    if experiment_id != where.experiment_id:
        raise NotFound("No such artifact")


async def _check_writable(service: TrackingService, caller: Identity, where: Location) -> None:
    if where.run_id is not None:
        experiment_id = (await service.access.writable_run(caller, where.run_id)).experiment_id
    else:
        experiment_id = (await service.access.writable_model(caller, where.model_id or "")).experiment_id
    if experiment_id != where.experiment_id:
        raise NotFound("No such artifact")
