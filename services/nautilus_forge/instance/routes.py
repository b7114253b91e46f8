"""`GET /version`, `/metadata`, `/license` and the health routes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from nautilus_forge import VERSION
from nautilus_forge.auth import Admin, Who
from nautilus_forge.db.dependency import TheForge
from nautilus_forge.errors import NotFound
from nautilus_forge.responses import Json

router = APIRouter()
health = APIRouter()


@router.get("/version")
async def version(who: Who) -> Response:
    """Source: lib/api/metadata.rb: the old name of `/metadata`."""
    return Json(_metadata())


@router.get("/metadata")
async def metadata(who: Who) -> Response:
    """Source: doc/api/metadata.md."""
    return Json(_metadata())


def _metadata() -> dict[str, object]:
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    return {"version": VERSION, "revision": "nautilus", "kas": kas, "enterprise": False}


@router.get("/license")
async def license_of_instance(who: Admin) -> Response:
    """A Community Edition has none: 404, as GitLab CE answers."""
    raise NotFound


@health.get("/-/readiness")
async def readiness(forge: TheForge) -> Response:
    """200 once the database stands at its head and the start-up work is done; else 503 with the reason."""
    if forge.not_ready is not None:
        return Json({"status": "failed", "reason": forge.not_ready}, 503, {"Retry-After": "1"})
    return Json({"status": "ok"})


@health.get("/-/liveness")
async def liveness() -> Response:
    return Json({"status": "ok"})
