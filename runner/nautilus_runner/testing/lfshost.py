"""Git LFS beside the git host of the tests: batch answers and objects, by project, behind the same tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_MEDIA_TYPE = "application/vnd.git-lfs+json"


def pointer(content: bytes) -> bytes:
    """What git keeps of a file in LFS."""
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def put_object(root: Path, project: str, content: bytes) -> str:
    """Give the project an object; its name."""
    oid = hashlib.sha256(content).hexdigest()
    folder = root / "lfs" / project
    folder.mkdir(parents=True, exist_ok=True)
    (folder / oid).write_bytes(content)
    return oid


def is_lfs(path: str) -> bool:
    return "/info/lfs/" in path or "/gitlab-lfs/" in path


async def answer_lfs(root: Path, request: Request) -> Response:
    from starlette.responses import JSONResponse, PlainTextResponse, Response

    path = request.url.path
    project, _, rest = path.strip("/").partition(".git/")
    folder = root / "lfs" / project
    if rest == "info/lfs/objects/batch" and request.method == "POST":
        asked = await request.json()
        base = str(request.base_url).rstrip("/")
        objects = [_entry(folder, one, f"{base}/{project}.git") for one in asked["objects"]]
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type=_MEDIA_TYPE)
    file = folder / rest.rpartition("/")[2]
    if not rest.startswith("gitlab-lfs/objects/") or not file.is_file():
        return PlainTextResponse("not found", 404)
    content = file.read_bytes()
    wanted = request.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
    if wanted.isdigit():
        return Response(content[int(wanted) :], 206, media_type="application/octet-stream")
    return Response(content, media_type="application/octet-stream")


def _entry(folder: Path, asked: dict[str, object], base: str) -> dict[str, object]:
    oid = str(asked["oid"])
    if not (folder / oid).is_file():
        error = {
            "code": 404,
            "message": "Object does not exist on the server or you don't have permissions to access it",
        }
        return {**asked, "error": error}
    return {
        **asked,
        "authenticated": True,
        "actions": {"download": {"href": f"{base}/gitlab-lfs/objects/{oid}"}},
    }
