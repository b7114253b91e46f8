"""The edge of the application: readiness, undecoded paths, request ids, and errors as GitLab's bodies."""

from __future__ import annotations

import logging
import secrets

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from psycopg.errors import DiskFull
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, TimeoutError
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus_forge import API_PREFIX
from nautilus_forge.errors import BadRequest, Conflict, ForgeError, GitError, InsufficientStorage, Unavailable
from nautilus_forge.files import is_disk_full
from nautilus_forge.forge import Forge
from nautilus_forge.responses import Json
from nautilus_forge.web.page import failure

log = logging.getLogger(__name__)

_ALWAYS_SERVED = ("/-/readiness", "/-/liveness", "/-/health")


class Edge:
    """Outermost ASGI layer.

    - Until the forge is ready every path but the health routes is a 503 that says why.
    - `scope["path"]` becomes the undecoded path, so that `%2F` in `projects/root%2Fdigits` or in a branch's
      name stays inside its segment; path parameters are decoded where they are used (`params.path_text`).
    - Every answer carries `X-Request-Id` (the gateway's, or a new one).
    """

    def __init__(self, app: ASGIApp, forge: Forge, state: State) -> None:
        self._app = app
        self.state = state
        self._forge = forge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope.get("raw_path", scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        scope = {**scope, "path": path}
        request_id = _header(scope, b"x-request-id") or secrets.token_hex(13)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        if self._forge.not_ready is not None and path not in _ALWAYS_SERVED:
            refusal = Unavailable(f"503 Service Unavailable: {self._forge.not_ready}")
            await _answer(refusal)(scope, receive, send_with_id)
            return
        await self._app(scope, receive, send_with_id)


def client_address(request: Request) -> str:
    """Who connects: what the gateway says when we listen on a unix socket, else the peer."""
    if request.client is not None and request.client.host:
        return request.client.host
    return request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or "unknown"


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text[:128]
    return None


def _answer(error: ForgeError) -> Response:
    return Json(error.body, error.status, error.headers)


def install_error_handlers(app: FastAPI) -> None:
    """Every failure ends as JSON in GitLab's form; what nobody foresaw is a 500 with the trace in our log alone."""
    app.add_exception_handler(ForgeError, _on_forge_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    for kind in (OperationalError, InterfaceError, TimeoutError):
        app.add_exception_handler(kind, _on_database_down)
    app.add_exception_handler(IntegrityError, _on_conflict)
    app.add_exception_handler(DataError, _on_bad_data)
    app.add_exception_handler(OSError, _on_os_error)
    app.add_exception_handler(Exception, _on_unforeseen)


async def _on_forge_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForgeError)
    if isinstance(error, GitError):
        log.error("%s %s: %s", request.method, request.scope["path"], error)
        if "No space left on device" in error.stderr:
            return _answer(InsufficientStorage())
    return _answer(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Unknown routes and methods. Source: gitlabhq lib/api/api.rb (`route :any, '*path'`)."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Json({"error": "405 Not Allowed"}, 405, error.headers)
    if error.status_code == 404:
        if _wants_page(request):
            return failure(
                "Not found", "There is no page here, or it is not for you. Nautilus has the pages.", 404
            )
        return Json({"error": "404 Not Found"}, 404)
    return Json({"message": f"{error.status_code} {error.detail}"}, error.status_code, error.headers)


def _wants_page(request: Request) -> bool:
    is_api = request.scope["path"].startswith((API_PREFIX, "/internal/", "/-/"))
    return not is_api and "text/html" in request.headers.get("accept", "")


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    names = dict.fromkeys(str(detail["loc"][-1]) for detail in error.errors())
    return Json({"error": ", ".join(f"{name} is invalid" for name in names)}, 400)


async def _on_conflict(request: Request, error: Exception) -> Response:
    """Two requests made the same thing at the same time; the database kept one."""
    log.info("%s %s: %s", request.method, request.scope["path"], error)
    return _answer(Conflict())


async def _on_bad_data(request: Request, error: Exception) -> Response:
    """A value that Postgres cannot hold (a number out of range)."""
    log.info("%s %s: %s", request.method, request.scope["path"], error)
    return _answer(BadRequest("a value is out of range"))


async def _on_os_error(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and is_disk_full(error):
        return _answer(InsufficientStorage())
    return await _on_unforeseen(request, error)


async def _on_database_down(request: Request, error: Exception) -> Response:
    if isinstance(getattr(error, "orig", None), DiskFull):
        return _answer(InsufficientStorage())
    log.error("%s %s: the database does not answer: %s", request.method, request.scope["path"], error)
    return _answer(Unavailable())


async def _on_unforeseen(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return Response(
        orjson.dumps({"message": "500 Internal Server Error"}), 500, media_type="application/json"
    )
