"""`/.well-known/openid-configuration`, `/oauth/discovery/keys`, `/oauth/userinfo`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.auth import Principal, authenticated
from nautilus_forge.db.dependency import TheForge
from nautilus_forge.oauth import oidc
from nautilus_forge.responses import Json

router = APIRouter()

OpenId = Annotated[Principal, Depends(authenticated("openid"))]


@router.get("/.well-known/openid-configuration")
async def configuration(forge: TheForge) -> Response:
    return Json(oidc.discovery(forge.settings))


@router.get("/oauth/discovery/keys")
async def keys(forge: TheForge) -> Response:
    return Json(await oidc.public_keys(forge.settings))


@router.get("/oauth/userinfo")
@router.post("/oauth/userinfo")
async def userinfo(who: OpenId, forge: TheForge) -> Response:
    """Source: OpenID Connect Core 1.0 section 5.3."""
    granted = sorted(who.scopes) if who.scopes is not None else []
    return Json(oidc.user_claims(forge.settings, who.require_user(), granted))
