"""`/oauth/token`, `/oauth/revoke`, `/oauth/token/info`: the client's half."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import identify
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import OAuthApplication, OAuthToken, User
from nautilus_forge.errors import Unauthorized
from nautilus_forge.forge import Forge
from nautilus_forge.oauth import grants, oidc, scopes
from nautilus_forge.oauth.errors import oauth_error
from nautilus_forge.oauth.grants import IssuedToken
from nautilus_forge.params import merged
from nautilus_forge.responses import Json
from nautilus_forge.tokens import secret

router = APIRouter()

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


async def _values(request: Request) -> dict[str, str]:
    return {name: value for name, value in (await merged(request)).items() if isinstance(value, str)}


@router.post("/oauth/token")
async def issue_token(request: Request, db: Db, forge: TheForge) -> Response:
    """`grant_type` authorization_code or refresh_token. Errors as RFC 6749 section 5.2."""
    values = await _values(request)
    application = await _authenticated_client(request, db, values)
    match values.get("grant_type"):
        case "authorization_code":
            issued = await grants.redeem_code(
                db,
                application,
                code=values.get("code", ""),
                redirect_uri=values.get("redirect_uri", ""),
                verifier=values.get("code_verifier"),
            )
            if issued is None:
                await db.commit()
                raise oauth_error("invalid_grant")
        case "refresh_token":
            wanted = scopes.parse(values["scope"]) if values.get("scope") else None
            issued = await grants.refresh(db, application, values.get("refresh_token", ""), wanted)
        case None | "":
            raise oauth_error("invalid_request", "Missing required parameter: grant_type.")
        case _:
            raise oauth_error("unsupported_grant_type")
    return Json(await _answer(db, forge, application, issued), headers=_NO_STORE)


async def _answer(
    db: AsyncSession, forge: Forge, application: OAuthApplication, issued: IssuedToken
) -> dict[str, Any]:
    user = await db.get_one(User, issued.token.user_id)
    if user.state != "active":
        raise oauth_error("invalid_grant")
    answer: dict[str, Any] = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": int(grants.TOKEN_LIFE.total_seconds()),
        "refresh_token": issued.refresh_token,
        "scope": issued.token.scopes,
        "created_at": int(issued.token.created_at.timestamp()),
    }
    if "openid" in issued.token.scopes.split():
        answer["id_token"] = await oidc.id_token(forge.settings, application, user, issued)
    return answer


async def _authenticated_client(
    request: Request, db: AsyncSession, values: dict[str, str]
) -> OAuthApplication:
    """By Basic or by parameters; a public client has no secret to show. Raises `OAuthError`."""
    uid, value = _basic(request.headers.get("authorization", "")) or (
        values.get("client_id", ""),
        values.get("client_secret", ""),
    )
    application = await db.scalar(select(OAuthApplication).where(OAuthApplication.uid == uid))
    if application is None:
        raise oauth_error("invalid_client")
    if (application.is_confidential or value) and not secret.matches(value, application.secret_digest):
        raise oauth_error("invalid_client")
    return application


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        uid, _, value = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return unquote_plus(uid), unquote_plus(value)


@router.post("/oauth/revoke")
async def revoke_token(request: Request, db: Db) -> Response:
    """200 whether or not there was such a token (RFC 7009)."""
    values = await _values(request)
    application = await _authenticated_client(request, db, values)
    await grants.revoke(db, application, values.get("token", ""))
    return Json({})


@router.get("/oauth/token/info")
async def token_info(request: Request, db: Db) -> Response:
    """Source: Doorkeeper `GET /oauth/token/info`."""
    try:
        who = await identify(request, db)
    except Unauthorized as error:
        raise oauth_error("invalid_token") from error
    token = who.token
    if not isinstance(token, OAuthToken):
        raise oauth_error("invalid_token")
    application = await db.get_one(OAuthApplication, token.application_id)
    left_s = max(0, int((token.expires_at - datetime.now(UTC)).total_seconds()))
    return Json(
        {
            "resource_owner_id": token.user_id,
            "scope": token.scopes.split(),
            "expires_in": left_s,
            "application": {"uid": application.uid},
            "created_at": int(token.created_at.timestamp()),
            "scopes": token.scopes.split(),
            "expires_in_seconds": left_s,
        }
    )
