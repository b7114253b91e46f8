"""An LFS object as an answer: by the gateway where it is in front (`X-Accel-Redirect`), else by ourselves."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from nautilus_forge.artifacts.download import accel_redirect, disposition, is_behind_gateway
from nautilus_forge.db.dependency import forge_of
from nautilus_forge.db.models import LfsObject

_BYTES = "application/octet-stream"


async def sent(request: Request, stored: LfsObject, filename: str = "") -> Response | None:
    """The whole object, in ranges too; None where its file is gone. `filename`: what a browser calls it."""
    store = forge_of(request).lfs.store
    if not await asyncio.to_thread(store.has, stored.path, stored.size):
        return None
    headers = {"Content-Type": _BYTES, "X-Content-Type-Options": "nosniff"}
    if filename:
        headers["Content-Disposition"] = disposition("attachment", filename)
    if is_behind_gateway(request):
        return accel_redirect(stored.path, headers)
    return FileResponse(store.path(stored.path), headers=headers, media_type=_BYTES)
