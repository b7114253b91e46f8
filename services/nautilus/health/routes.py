"""`GET /-/health` and `/api/v1/health`: every component; `GET /-/readiness`: whether this service can
serve."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from nautilus.health.page import health_page
from nautilus.health.probes import Probes
from nautilus.readiness import Readiness

_HEADERS = {"Cache-Control": "no-store"}


def health_routes(probes: Probes, readiness: Readiness) -> APIRouter:
    router = APIRouter()

    @router.get("/-/health")
    @router.get("/api/v1/health")
    async def health(request: Request) -> Response:
        found = await probes.health()
        status = 200 if found.is_ready else 503
        if status == 503 and "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(health_page(found), status, headers=_HEADERS)
        return JSONResponse(found.as_json(), status, headers=_HEADERS)

    @router.get("/-/readiness")
    async def is_ready() -> Response:
        reason = readiness.reason or await readiness.check()
        body = {"ready": reason is None, "reason": reason}
        return JSONResponse(body, 200 if reason is None else 503, headers=_HEADERS)

    return router
