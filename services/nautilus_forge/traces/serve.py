"""A log for a reader: byte ranges included, and of a running job only what is certain not to be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from nautilus_forge.artifacts.download import accel_redirect, is_behind_gateway
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.traces.mask import Mask
from nautilus_forge.traces.store import relative_path

_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
_CHUNK = 256 << 10


def serve_trace(ci: CiHalf, request: Request, job_id: int, mask: Mask | None) -> Response:
    """The job's log. `mask`: of a job that still runs, else None."""
    path = ci.traces.path(job_id)
    headers = {
        "Content-Disposition": f'infile; filename="{job_id}.log"',
        "Content-Type": "text/plain; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    size = ci.traces.size(job_id)
    if size == 0:
        return _empty(request, headers)
    shown = ci.traces.visible_size(job_id, mask) if mask is not None else size
    if shown < size:
        return _part(request, path, shown, headers)
    if is_behind_gateway(request):
        return accel_redirect(relative_path(job_id), headers)
    return FileResponse(path, headers=headers)


def _empty(request: Request, headers: dict[str, str]) -> Response:
    if _RANGE.match(request.headers.get("range", "")):
        return Response(status_code=416, headers={**headers, "Content-Range": "bytes */0"})
    return Response(b"", headers=headers)


def _part(request: Request, path: Path, size: int, headers: dict[str, str]) -> Response:
    """The first `size` bytes, as if that were all."""
    start, end = 0, size
    status = 200
    match = _RANGE.match(request.headers.get("range", ""))
    if match is not None and (match[1] or match[2]):
        status = 206
        if match[1]:
            start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        else:
            start = max(0, size - int(match[2]))
        if start >= end:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    headers = {**headers, "Content-Length": str(end - start), "Accept-Ranges": "bytes"}
    return StreamingResponse(_read(path, start, end), status, headers=headers)


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK, end - start))):
            start += len(chunk)
            yield chunk
