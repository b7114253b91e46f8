"""Static files of the pages, at addresses that change with their content, so that browsers may keep them.

`/static/<digest>/css/base.css`: the digest covers every file, so that scripts' relative imports carry it too.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from nautilus.web.errors import PageNotFound

FOLDER = Path(__file__).parent / "static"
_KEPT = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def digest() -> str:
    """12 hex digits over the names and bytes of every static file."""
    total = hashlib.sha256()
    for path in sorted(path for path in FOLDER.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(FOLDER)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def address(path: str) -> str:
    """URL path of the static file `path` (relative to the static folder)."""
    return f"/static/{digest()}/{path}"


@lru_cache(maxsize=64)
def _body(path: str) -> tuple[bytes, str] | None:
    file = (FOLDER / path).resolve()
    if not file.is_relative_to(FOLDER) or not file.is_file():
        return None
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return file.read_bytes(), kind


async def icon(_: Request) -> Response:
    """`GET /favicon.ico`, which browsers ask for wherever no page named another."""
    body, kind = _body("icon.svg") or (b"", "image/svg+xml")
    return Response(body, media_type=kind, headers={"Cache-Control": "public, max-age=86400"})


async def serve(request: Request) -> Response:
    """`GET /static/<digest>/<path>`: kept for a year under the current digest, revalidated under another.

    Raises PageNotFound.
    """
    found = _body(request.path_params["path"])
    if found is None:
        raise PageNotFound()
    body, kind = found
    is_current = request.path_params["digest"] == digest()
    tag = f'"{digest()}"'
    kept = _KEPT if is_current else "no-cache"
    headers = {"Cache-Control": kept, "ETag": tag, "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=kind, headers=headers)
