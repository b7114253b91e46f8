"""Answers as Git LFS wants them: its media type, and errors with GitLab's words.

Source: git-lfs docs/api/{README,batch,locking}.md, gitlabhq app/controllers/concerns/lfs_request.rb,
app/controllers/repositories/git_http_client_controller.rb (`render_access_denied`).

    ForgeError
    └── LfsError               {"message", "documentation_url"}
        ├── LfsForbidden       403  sees the objects, but may not do that
        ├── LfsNotFound        404  no such project, or none for these eyes, or LFS is off there
        └── LfsUnprocessable   422  the request makes no sense
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.errors import BadRequest, ForgeError
from nautilus_forge.internal.git_access import Denied
from nautilus_forge.params import read_body
from nautilus_forge.responses import Json

MEDIA_TYPE = "application/vnd.git-lfs+json"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="GitLab"'}
_LONGEST_BODY = 8 << 20


class LfsError(ForgeError):
    default: ClassVar[str] = "Something went wrong."

    def __init__(
        self, request: Request, message: str | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        help_url = f"{request.app.state.forge.settings.external_url}/help"
        body = {**(more or {}), "message": message or self.default, "documentation_url": help_url}
        super().__init__(body=body, headers={"Content-Type": MEDIA_TYPE})


class LfsForbidden(LfsError):
    status = 403
    default = "Access forbidden. Check your access level."


class LfsNotFound(LfsError):
    status = 404
    default = "Not found."


class LfsConflict(LfsError):
    status = 409


class LfsUnprocessable(LfsError):
    status = 422


class LfsDeprecated(LfsError):
    """The API before batches."""

    status = 501
    default = "Server supports batch API only, please update your Git LFS client to version 1.0.1 and up."


def lfs_json(content: Any, status: int = 200) -> Response:
    return Json(content, status, {"Content-Type": MEDIA_TYPE})


def refused(denied: Denied) -> Response:
    """A wrong proof, or none where one is needed: in plain text, with the challenge that makes clients ask."""
    return PlainTextResponse(denied.message, denied.status, CHALLENGE if denied.status == 401 else {})


async def lfs_body(request: Request) -> dict[str, Any]:
    """The JSON object of the request, {} for none. Raises `BadRequest`, `PayloadTooLarge`."""
    raw = await read_body(request, _LONGEST_BODY)
    if not raw.strip():
        return {}
    try:
        value = orjson.loads(raw)
    except ValueError as error:
        raise BadRequest(body={"message": "There was a problem in the JSON you submitted"}) from error
    if not isinstance(value, dict):
        raise BadRequest(body={"message": "The request body must be a JSON object"})
    return value
