"""Answers that are files: by the gateway where it is in front (`X-Accel-Redirect`), else by ourselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from nautilus_forge.artifacts.archive import Entry
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.errors import NotFound

_ACCEL_PREFIX = "/_forge/"


def is_behind_gateway(request: Request) -> bool:
    return request.headers.get("x-nautilus-gateway") == "1"


def accel_redirect(relative: str, headers: dict[str, str]) -> Response:
    """An empty answer that the gateway fills with the file; Range requests included."""
    return Response(headers={**headers, "X-Accel-Redirect": _ACCEL_PREFIX + quote(relative)})


def disposition(kind: str, filename: str) -> str:
    """`attachment; filename="a.zip"`, with RFC 6266's extension for names that are not ASCII."""
    plain = filename.encode("ascii", "replace").decode().replace('"', "_").replace("\\", "_")
    extended = f"; filename*=UTF-8''{quote(filename)}" if plain != filename else ""
    return f'{kind}; filename="{plain}"{extended}'


def send_blob(ci: CiHalf, request: Request, relative: str, filename: str) -> Response:
    """A whole artifact. Raises `NotFound` where the file is gone."""
    path = ci.blobs.path(relative)
    headers = {
        "Content-Disposition": disposition("attachment", filename),
        "X-Content-Type-Options": "nosniff",
    }
    if not path.is_file():
        raise NotFound
    if is_behind_gateway(request):
        return accel_redirect(relative, {**headers, "Content-Type": "application/octet-stream"})
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


async def send_entry(archive: Path, name: str) -> Response:
    """One file out of an archive, streamed. Raises `NotFound`, `BrokenArchive`.

    The content is the job's: it is never shown as a page of ours.
    """
    entry = await run_in_threadpool(Entry, archive, name)

    async def content() -> AsyncIterator[bytes]:
        try:
            chunks = entry.chunks()
            while chunk := await run_in_threadpool(next, chunks, b""):
                yield chunk
        finally:
            entry.close()

    headers = {
        "Content-Length": str(entry.size),
        "Content-Disposition": disposition("attachment", name.rsplit("/", 1)[-1]),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return StreamingResponse(content(), media_type="application/octet-stream", headers=headers)
