"""The composition root: builds every part from the settings and joins them. `create_app(settings)`.

Nothing outside of this module knows which implementation of a port is used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from nautilus.appliance.schema import head
from nautilus.auth import Authenticator
from nautilus.db.engine import Database
from nautilus.errors import NautilusError
from nautilus.events import Events
from nautilus.gitlab.port import GitLab
from nautilus.guard import check_routes
from nautilus.readiness import Readiness, ReadinessGate
from nautilus.settings import Settings
from nautilus.signin.oauth import Provider
from nautilus.web import wiring
from nautilus.web.site import Site
from nautilus.web.wiring import Pages

logger = logging.getLogger(__name__)

PUBLIC_ROUTES: frozenset[str] = frozenset(
    {
        "/-/health",
        "/-/readiness",
        "/api/v1/health",
    }
    | wiring.PUBLIC_PATHS
)
"""Routes that ask nobody who they are. Everything else must ask, or the app does not start (guard.py)."""


def create_app(
    settings: Settings, *, gitlab: GitLab | None = None, provider: Provider | None = None
) -> FastAPI:
    """The management service. `gitlab` and `provider` replace the clients, for tests.

    Raises SettingError where a setting cannot be used or a route has no authentication.
    """
    parts = Parts(settings, gitlab, provider)
    app = FastAPI(title="Nautilus", openapi_url=None, docs_url=None, redoc_url=None, lifespan=parts.lifespan)
    app.state.parts = parts
    _add_routes(app, parts)
    check_routes(app, PUBLIC_ROUTES)
    app.add_exception_handler(NautilusError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_crash)
    app.add_middleware(ReadinessGate, readiness=parts.readiness)
    return app


class Parts:
    """Everything that lives as long as the process, made once; the features take what they need by
    argument."""

    def __init__(
        self, settings: Settings, gitlab: GitLab | None = None, provider: Provider | None = None
    ) -> None:
        self.settings = settings
        self.database = Database(
            settings.database_url.get_secret_value(), pool_size=settings.database_pool_size
        )
        self.readiness = Readiness(self.database, head("management"))
        self.gitlab = gitlab or _gitlab_client(settings)
        self.auth = Authenticator(self.gitlab)
        self.events = Events()
        self.pages = Pages(settings, self.database, provider)
        self.auth.use_sessions(self.pages.site.resolve)
        self.background: list[Callable[[], Awaitable[None]]] = []
        """Loops that run from readiness to the end; they are cancelled at shutdown."""

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.readiness.watch(), name="readiness")]
        tasks += [asyncio.create_task(self._when_ready(loop)) for loop in self.background]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.pages.close()
            await self.gitlab.close()
            await self.database.close()

    async def _when_ready(self, loop: Callable[[], Awaitable[None]]) -> None:
        await self.readiness.wait()
        try:
            await loop()
        except Exception:
            logger.exception("a background loop ended")


def _add_routes(app: FastAPI, parts: Parts) -> None:
    """The route table."""
    app.router.routes.extend(parts.pages.routes())


def _gitlab_client(settings: Settings) -> GitLab:
    from nautilus.gitlab.client import GitLabClient

    return GitLabClient(settings.gitlab_url)


async def _problem(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """The error as JSON, or as a page where a browser asked for one."""
    site: Site = request.app.state.parts.pages.site
    if site.wants_page(request):
        answer = await site.crash(request, status, message, code)
        answer.headers.update(headers or {})
        return answer
    return JSONResponse({"message": message, "code": code}, status_code=status, headers=headers)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NautilusError)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="Nautilus"'
    if error.status >= 500:
        logger.warning("%s %s: %s", request.method, request.url.path, error)
    return await _problem(request, error.status, error.code, error.message, headers)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    message = "; ".join(_sentence(item) for item in error.errors()[:5])
    return await _problem(request, 422, "invalid_request", message)


def _sentence(item: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
    return f"{where}: {item['msg']}" if where else str(item["msg"])


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(
        error.status_code, "invalid_request"
    )
    return await _problem(request, error.status_code, code, str(error.detail), dict(error.headers or {}))


async def _on_crash(request: Request, error: Exception) -> Response:
    logger.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _problem(request, 500, "internal", "something went wrong in Nautilus; its log says more")
