"""Errors as answers: `{"message", "code"}` with the right status, or a page where a browser asked for one."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from nautilus.errors import NautilusError
from nautilus.web.site import Site

logger = logging.getLogger(__name__)


def add_error_answers(app: FastAPI, site: Site) -> None:
    """Every error that leaves a route becomes an answer; what we did not foresee is logged and says
    little."""

    async def answer(
        request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> Response:
        if site.wants_page(request):
            page = await site.crash(request, status, message, code)
            page.headers.update(headers or {})
            return page
        return JSONResponse({"message": message, "code": code}, status_code=status, headers=headers)

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, NautilusError)
        headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        if error.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="Nautilus"'
        if error.status >= 500:
            logger.warning("%s %s: %s", request.method, request.url.path, error)
        return await answer(request, error.status, error.code, error.message, headers)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        message = "; ".join(_sentence(item) for item in error.errors()[:5])
        return await answer(request, 422, "invalid_request", message)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status, detail = error.status_code, str(error.detail)
        return await answer(request, status, _code_of(status), detail, dict(error.headers or {}))

    async def on_crash(request: Request, error: Exception) -> Response:
        logger.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return await answer(request, 500, "internal", "something went wrong in Nautilus; its log says more")

    app.add_exception_handler(NautilusError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_crash)


def _sentence(item: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in item["loc"] if part not in ("body", "query", "path"))
    return f"{where}: {item['msg']}" if where else str(item["msg"])


def _code_of(status: int) -> str:
    known = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    return known.get(status, "invalid_request")
