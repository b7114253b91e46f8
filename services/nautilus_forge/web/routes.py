"""Sign-in, sign-out and the start page.

Source: GitLab's paths (`/users/sign_in`, `/users/sign_out`) and form fields (`user[login]`, `user[password]`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import OAuthApplication, User
from nautilus_forge.errors import TooManyRequests
from nautilus_forge.forge import Forge
from nautilus_forge.http import client_address
from nautilus_forge.params import merged
from nautilus_forge.projects import queries
from nautilus_forge.projects.entities import http_url
from nautilus_forge.tokens import secret
from nautilus_forge.users.signing_in import Throttle, check_password
from nautilus_forge.web import sessions
from nautilus_forge.web.page import failure, hidden, page

_WRONG = "Wrong user name or password. After ten wrong tries an account is locked for ten minutes."
_EXPIRED = "The page was too old to be used. Please try again."


def local_path(wanted: object) -> str:
    """A path of our own to go on to; `/` for anything that might lead elsewhere."""
    if not isinstance(wanted, str) or not wanted.startswith("/") or wanted.startswith(("//", "/\\")):
        return "/"
    if any(ord(c) < 0x21 or ord(c) == 0x7F or c == "\\" for c in wanted) or urlsplit(wanted).netloc:
        return "/"
    return wanted


async def to_sign_in(request: Request) -> Response:
    """Sign in first, then come back to this very request."""
    query = f"?{request.url.query}" if request.url.query else ""
    return_to = quote(request.scope["path"] + query, safe="")
    return RedirectResponse(f"/users/sign_in?return_to={return_to}", 303)


async def _form_targets(db: AsyncSession, return_to: str) -> list[str]:
    """Where the browser may end up after signing in: the redirect URIs of the application that sent it here."""
    parts = urlsplit(return_to)
    client_id = parse_qs(parts.query).get("client_id", [""])[-1]
    if parts.path != "/oauth/authorize" or not client_id:
        return []
    uris = await db.scalar(select(OAuthApplication.redirect_uri).where(OAuthApplication.uid == client_id))
    return uris.split() if uris else []


async def _sign_in_page(
    request: Request,
    db: AsyncSession,
    forge: Forge,
    return_to: str,
    *,
    problem: str = "",
    login: str = "",
    note: str = "",
    status: int = 200,
) -> Response:
    """The form, with a CSRF token for the browser's cookie (a new one where it has none)."""
    cookie = sessions.cookie_value(request)
    value = cookie or secret.generate()
    fields = {"authenticity_token": sessions.csrf_token(forge.secret_key, value), "return_to": return_to}
    said = f'<p class="note bad" role="alert">{escape(problem)}</p>' if problem else ""
    said += f'<p class="note" role="status">{escape(note)}</p>' if note else ""
    body = (
        "<h1>Sign in</h1><p class=lead>One account for Git, the API and the pages.</p>"
        f"{said}<form method=post action=/users/sign_in accept-charset=utf-8>{hidden(fields)}"
        "<label for=user_login>User name or e-mail</label>"
        '<input id=user_login name="user[login]" autocomplete=username autocapitalize=none spellcheck=false'
        f' value="{escape(login)}" required{"" if login else " autofocus"}>'
        "<label for=user_password>Password</label>"
        '<input id=user_password name="user[password]" type=password autocomplete=current-password required'
        f"{' autofocus' if login else ''}>"
        "<button type=submit>Sign in</button></form>"
        "<p class=hint>The first user is <code>root</code>; where Nautilus runs, "
        "<code>nautilus user password</code> shows the password.</p>"
    )
    response = page("Sign in", body, status=status, form_targets=await _form_targets(db, return_to))
    if cookie is None:
        sessions.set_cookie(response, forge.settings, value)
    return response


def pages_router() -> APIRouter:
    """The routes, with a throttle of their own for failed sign-ins."""
    router = APIRouter()
    throttle = Throttle()

    @router.get("/users/sign_in")
    async def ask(request: Request, db: Db, forge: TheForge) -> Response:
        return_to = local_path(request.query_params.get("return_to"))
        if await sessions.current(request, db) is not None:
            return RedirectResponse(return_to, 303)
        note = "You are signed out." if "signed_out" in request.query_params else ""
        return await _sign_in_page(request, db, forge, return_to, note=note)

    @router.post("/users/sign_in")
    async def sign_in(request: Request, db: Db, forge: TheForge) -> Response:
        values = await merged(request)
        return_to = local_path(values.get("return_to"))
        if not sessions.is_csrf_right(request, str(values.get("authenticity_token", ""))):
            return await _sign_in_page(request, db, forge, return_to, problem=_EXPIRED, status=422)
        address = client_address(request)
        try:
            throttle.require_room(address)
        except TooManyRequests as refusal:
            return _too_many(refusal)
        user = await _checked(db, values)
        if user is None:
            throttle.note_failure(address)
            login = _login_of(values)
            return await _sign_in_page(request, db, forge, return_to, problem=_WRONG, login=login, status=422)
        response = RedirectResponse(return_to, 303)
        sessions.set_cookie(response, forge.settings, await _begun(request, db, user, address))
        return response

    router.add_api_route("/users/sign_out", ask_sign_out, methods=["GET"])
    router.add_api_route("/users/sign_out", sign_out, methods=["POST"])
    router.add_api_route("/", start, methods=["GET"])
    return router


def _too_many(refusal: TooManyRequests) -> Response:
    response = failure("Too many tries", "Please wait a minute, then try again.", 429)
    response.headers.update(refusal.headers)
    return response


def _login_of(values: dict[str, Any]) -> str:
    given = values.get("user")
    login = given.get("login", "") if isinstance(given, dict) else ""
    return login[:255] if isinstance(login, str) else ""


async def _checked(db: AsyncSession, values: dict[str, Any]) -> User | None:
    given = values.get("user")
    given = given if isinstance(given, dict) else {}
    login, password = given.get("login", ""), given.get("password", "")
    if not isinstance(login, str) or not isinstance(password, str) or not login or not password:
        return None
    if not (await current_values(db)).password_authentication_enabled_for_web:
        return None
    user = await check_password(db, login, SecretStr(password))
    if user is not None and user.state == "deactivated":
        user.state = "active"
    return user if user is not None and user.state == "active" else None


async def _begun(request: Request, db: AsyncSession, user: User, address: str) -> str:
    user.last_sign_in_at, user.current_sign_in_at = user.current_sign_in_at, datetime.now(UTC)
    return await sessions.begin(request, db, user, address)


async def ask_sign_out(request: Request, db: Db, forge: TheForge) -> Response:
    """Signing out changes something: so it takes a click, not a link."""
    signed_in = await sessions.current(request, db)
    if signed_in is None:
        return RedirectResponse("/users/sign_in?signed_out=1", 303)
    body = f"<h1>Sign out?</h1><p class=lead>You are signed in as {escape(signed_in.user.username)}.</p>"
    return page("Sign out", body + _sign_out_form(request, forge))


def _sign_out_form(request: Request, forge: Forge) -> str:
    token = sessions.csrf_token(forge.secret_key, sessions.cookie_value(request) or "")
    fields = hidden({"authenticity_token": token})
    return f"<form method=post action=/users/sign_out>{fields}<button class=quiet>Sign out</button></form>"


async def sign_out(request: Request, db: Db, forge: TheForge) -> Response:
    values = await merged(request)
    if not sessions.is_csrf_right(request, str(values.get("authenticity_token", ""))):
        return failure("Not signed out", _EXPIRED, 422)
    await sessions.end(request, db)
    response = RedirectResponse("/users/sign_in?signed_out=1", 303)
    sessions.clear_cookie(response, forge.settings)
    return response


async def start(request: Request, db: Db, forge: TheForge) -> Response:
    """Who is signed in, and what can be cloned: the forge has no further pages; Nautilus has."""
    signed_in = await sessions.current(request, db)
    if signed_in is None:
        return await to_sign_in(request)
    statement = queries.ordered(queries.visible_to(signed_in.user), "last_activity_at", "desc").limit(50)
    found = (await db.scalars(statement)).unique().all()
    items = "".join(
        f"<li><strong>{escape(project.path_with_namespace)}</strong>"
        f"<code>git clone {escape(http_url(forge.settings, project))}</code></li>"
        for project in found
    )
    body = (
        f"<h1>Signed in as {escape(signed_in.user.name)}</h1>"
        "<p class=lead>This address serves Git and the API. Experiments and runners have their pages in Nautilus.</p>"
        + (f"<ul>{items}</ul>" if items else "<p>No project yet.</p>")
    )
    return page("Git", body + _sign_out_form(request, forge), wide=True)
