"""`/oauth/authorize`: the browser's half of the authorization code flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import OAuthApplication
from nautilus_forge.forge import Forge
from nautilus_forge.oauth import grants, scopes
from nautilus_forge.oauth.errors import OAuthError, oauth_error
from nautilus_forge.params import merged
from nautilus_forge.web import sessions
from nautilus_forge.web.page import failure, hidden, page
from nautilus_forge.web.routes import to_sign_in

router = APIRouter()

_FIELDS = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)


@dataclass(frozen=True)
class AuthorizationRequest:
    """A request whose client and redirect URI are known to be right: errors may go back by redirect."""

    application: OAuthApplication
    redirect_uri: str
    state: str | None
    scopes: list[str]
    challenge: str | None
    nonce: str | None
    fields: Mapping[str, str]


class WrongClient(Exception):
    """No redirect may follow: the client or its redirect URI is not known."""


@router.get("/oauth/authorize")
async def authorize(request: Request, db: Db, forge: TheForge) -> Response:
    """Sign-in first, then consent (not for trusted applications, nor for what was consented to), then the code."""
    try:
        client = await _client(db, request.query_params)
    except WrongClient as error:
        return failure("This request cannot be authorized", str(error), 401)
    application, redirect_uri = client
    try:
        asked = _checked(application, redirect_uri, request.query_params)
    except OAuthError as error:
        return _redirect(redirect_uri, _problem(error, request.query_params.get("state")))
    signed_in = await sessions.current(request, db)
    if signed_in is None:
        return await to_sign_in(request)
    if signed_in.user.state != "active":
        return failure("Your account is blocked", "An administrator can unblock it.", 403)
    user_id = signed_in.user.id
    if application.is_trusted or await grants.has_consented(db, application, user_id, asked.scopes):
        return await _granted(db, asked, user_id)
    return _consent_page(request, forge, asked, signed_in.user.username)


@router.post("/oauth/authorize")
async def decide(request: Request, db: Db, forge: TheForge) -> Response:
    """The answer of the consent page."""
    values = {name: value for name, value in (await merged(request)).items() if isinstance(value, str)}
    signed_in = await sessions.current(request, db)
    if signed_in is None or not sessions.is_csrf_right(request, values.get("authenticity_token", "")):
        return failure("This page was too old", "Go back to the application and try again.", 422)
    try:
        application, redirect_uri = await _client(db, values)
        asked = _checked(application, redirect_uri, values)
    except WrongClient as error:
        return failure("This request cannot be authorized", str(error), 401)
    except OAuthError as error:
        return _redirect(redirect_uri, _problem(error, values.get("state")))
    if values.get("decision") != "authorize":
        return _redirect(redirect_uri, _problem(oauth_error("access_denied"), asked.state))
    return await _granted(db, asked, signed_in.user.id)


async def _client(db: AsyncSession, values: Mapping[str, str]) -> tuple[OAuthApplication, str]:
    uid = values.get("client_id", "")
    application = await db.scalar(select(OAuthApplication).where(OAuthApplication.uid == uid))
    if application is None:
        raise WrongClient(
            "The application is not known here. It may have been registered with another instance."
        )
    redirect_uri = values.get("redirect_uri", "")
    if redirect_uri not in application.redirect_uri.split("\n"):
        raise WrongClient("The redirect URI is not one of those that the application is registered with.")
    return application, redirect_uri


def _checked(
    application: OAuthApplication, redirect_uri: str, values: Mapping[str, str]
) -> AuthorizationRequest:
    """Raises `OAuthError`."""
    if values.get("response_type") != "code":
        raise oauth_error("unsupported_response_type")
    registered = application.scopes.split()
    wanted = scopes.parse(values.get("scope", "")) or registered[:1]
    if not set(wanted) <= set(registered):
        raise oauth_error("invalid_scope")
    challenge = values.get("code_challenge") or None
    if challenge is not None and values.get("code_challenge_method", "plain") != "S256":
        raise oauth_error("invalid_code_challenge_method")
    if challenge is not None and not grants.is_challenge(challenge):
        raise oauth_error("invalid_request", "The code_challenge is malformed.")
    if challenge is None and not application.is_confidential:
        raise oauth_error("invalid_request", "Code challenge is required.")
    return AuthorizationRequest(
        application=application,
        redirect_uri=redirect_uri,
        state=values.get("state"),
        scopes=wanted,
        challenge=challenge,
        nonce=values.get("nonce"),
        fields={name: values[name] for name in _FIELDS if name in values},
    )


async def _granted(db: AsyncSession, asked: AuthorizationRequest, user_id: int) -> Response:
    code = await grants.issue_code(
        db,
        asked.application,
        user_id,
        redirect_uri=asked.redirect_uri,
        scopes=" ".join(asked.scopes),
        challenge=asked.challenge,
        nonce=asked.nonce,
    )
    answer = {"code": code} | ({"state": asked.state} if asked.state is not None else {})
    return _redirect(asked.redirect_uri, answer)


def _problem(error: OAuthError, state: str | None) -> dict[str, str]:
    answer = {"error": error.code, "error_description": error.description}
    return answer | ({"state": state} if state is not None else {})


def _redirect(uri: str, answer: Mapping[str, str]) -> Response:
    parts = urlsplit(uri)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *answer.items()])
    target = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
    return RedirectResponse(target, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _consent_page(request: Request, forge: Forge, asked: AuthorizationRequest, username: str) -> Response:
    name = escape(asked.application.name)
    items = "".join(
        f"<li><strong>{escape(scope)}</strong><span>{escape(scopes.WORDS[scope])}</span></li>"
        for scope in asked.scopes
    )
    token = sessions.csrf_token(forge.secret_key, sessions.cookie_value(request) or "")
    fields = hidden({"authenticity_token": token, **asked.fields})
    body = (
        f"<h1>Let {name} use your account?</h1>"
        f"<p class=lead>You are signed in as {escape(username)}. {name} would be allowed to:</p><ul>{items}</ul>"
        f"<form method=post action=/oauth/authorize>{fields}"
        "<button name=decision value=authorize>Allow</button>"
        "<button name=decision value=deny class=quiet>Deny</button></form>"
    )
    return page("Allow access", body, form_targets=[asked.redirect_uri])
