"""`/internal/upload/authorize`: what the gateway asks before it takes the body of a large upload in."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.db.dependency import TheForge
from nautilus_forge.errors import Forbidden

router = APIRouter()


@router.get("/internal/upload/authorize")
async def authorize(request: Request, forge: TheForge) -> Response:
    """200 goes ahead (`X-Original-Method`, `X-Original-URI`, credentials); after any other the upload's own route
    answers the client.
    """
    method = request.headers.get("x-original-method", "")
    path = unquote(urlsplit(request.headers.get("x-original-uri", "")).path)
    for gate in forge.upload_gates:
        if await gate(request, method, path):
            return Response(status_code=200)
    raise Forbidden
