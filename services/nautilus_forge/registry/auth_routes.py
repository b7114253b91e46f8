"""`/jwt/auth`: tokens for the container registry, after the credentials that `docker login` sends.

Source: gitlabhq app/controllers/jwt_controller.rb,
https://distribution.github.io/distribution/spec/auth/token/ (parameters `service`, `scope`, `account`,
`offline_token`, `client_id`; the last three change nothing here, as in GitLab).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import NOBODY, Principal
from nautilus_forge.basic_auth import credentials
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.deploy_tokens.service import username
from nautilus_forge.registry.access import Caller, grant
from nautilus_forge.registry.half import ContainerRegistry
from nautilus_forge.registry.signing import SERVICE
from nautilus_forge.responses import Json

router = APIRouter()

_MOST_SCOPES = 20
_DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, "
    "expired, or improperly scoped."
)


@router.get("/jwt/auth")
async def token_for_the_registry(request: Request, db: Db, forge: TheForge) -> Response:
    """A token for the scopes that are allowed, of those that were asked for; with none of them it says who one is."""
    header = request.headers.get("authorization", "")
    who: Principal | None = NOBODY
    if header:
        pair = credentials(header)
        who = await forge.basic.identify(request, db, *pair) if pair is not None else None
    if who is None or (who.user is not None and who.user.state != "active"):
        return _error(401, "UNAUTHORIZED", _DENIED)
    if request.query_params.get("service") != SERVICE:
        return Response(status_code=404)
    if forge.registry is None:
        return _error(404, "UNAVAILABLE", "registry not enabled")
    caller = Caller.of(who)
    granted = [entry for scope in _scopes(request) if (entry := await grant(db, caller, scope)) is not None]
    if not caller.grants or (not granted and who.is_nobody):
        return _error(403, "DENIED", "access forbidden")
    return Json({"token": _token(forge.registry, caller, granted)})


def _scopes(request: Request) -> list[str]:
    """Repeated parameters, and several in one (RFC 6749, 3.3)."""
    listed = [scope for value in request.query_params.getlist("scope") for scope in value.split()]
    return list(dict.fromkeys(listed))[:_MOST_SCOPES]


def _token(registry: ContainerRegistry, caller: Caller, granted: list[dict[str, Any]]) -> str:
    user, deploy_token = caller.who.user, caller.who.deploy_token
    claims: dict[str, Any] = {"auth_type": caller.kind}
    if deploy_token is not None:
        name = username(deploy_token)
        info = {"token_type": caller.kind, "username": name, "deploy_token_id": deploy_token.id}
        claims |= {"sub": name, "user": registry.signer.statement({"user_info": info})}
    if user is not None:
        info = {"token_type": caller.kind, "username": user.username, "user_id": user.id}
        claims |= {"sub": user.username, "user": registry.signer.statement({"user_info": info})}
    return registry.signer.token(granted, **claims)


def _error(status: int, code: str, message: str) -> Response:
    return Json({"errors": [{"code": code, "message": message}]}, status)
