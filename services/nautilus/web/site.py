"""What every page shares: templates, security headers, who looks, the session cookie, and error pages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from nautilus.core.identity import Identity
from nautilus.core.states import ACTIVE_STATES, FINAL_STATES, ExperimentState
from nautilus.errors import NautilusError, TooLarge
from nautilus.guard import guarded
from nautilus.settings import Settings
from nautilus.signin.sessions import Sessions, SignedIn
from nautilus.web import assets, words
from nautilus.web.errors import CsrfRefused, SignInNeeded

if TYPE_CHECKING:
    from jinja2 import Environment

logger = logging.getLogger(__name__)

FORM_LIMIT_BYTES = 1 << 20
_TEMPLATES = Path(__file__).parent / "templates"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_PAGES = ("/api/", "/-/", "/static/")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
    "Vary": "HX-Request",
}
_TITLES = {
    401: "Please sign in",
    403: "This is not yours to do",
    404: "There is nothing here",
    409: "That cannot be done now",
    413: "Too large",
    422: "Something in the request is wrong",
    502: "GitLab's answer makes no sense",
    503: "Not available right now",
    507: "The disk is full",
}


@dataclass(frozen=True)
class Visit:
    """One request for a page by somebody who is signed in. `form` is empty unless it is a write."""

    request: Request
    identity: Identity
    csrf_token: str
    form: FormData

    @property
    def is_fragment(self) -> bool:
        """Whether htmx asks for a part of the page (not for a whole one after its history was lost)."""
        headers = self.request.headers
        return headers.get("hx-request") == "true" and "hx-history-restore-request" not in headers


Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Site:
    """One per process. Templates are read at the first page."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self.settings = settings
        self.sessions = sessions
        self.is_secure = settings.external_url.startswith("https://")
        self.cookie = ("__Host-" if self.is_secure else "") + "nautilus_session"

    @cached_property
    def environment(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for name in (
            "number",
            "parameter",
            "duration",
            "filesize",
            "amount",
            "moment",
            "plural",
            "sentence",
            "short_sha",
        ):
            environment.filters[name] = getattr(words, name)
        environment.tests["final"] = lambda state: state in FINAL_STATES
        environment.tests["cancelable"] = lambda state: state in ACTIVE_STATES - {ExperimentState.CANCELING}
        environment.globals |= {
            "asset": assets.address,
            "gitlab_url": self.settings.gitlab_external_url,
            "sign_in_url": self.settings.sign_in_url,
        }
        return environment

    def render(self, visit: Visit | None, template: str, status: int = 200, **context: Any) -> Response:
        """The template as a page (or fragment), with the headers that every page has."""
        context.setdefault("section", None)
        context.setdefault("notice", None)
        context |= {
            "viewer": visit and visit.identity,
            "csrf_token": visit.csrf_token if visit else "",
        }
        body = self.environment.get_template(template).render(context)
        return HTMLResponse(body, status, headers=dict(_HEADERS))

    def redirect(self, path: str) -> Response:
        """See other: after a write, or to sign in. `path` is ours or GitLab's, never taken from a request."""
        return RedirectResponse(
            path, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "same-origin"}
        )

    def page(self, handler: Handler) -> Endpoint:
        """An endpoint for people who are signed in; strangers are sent to sign in, errors become pages."""

        @guarded
        async def endpoint(request: Request) -> Response:
            visit: Visit | None = None
            try:
                visit = await self._visit(request)
                return await handler(visit)
            except SignInNeeded as error:
                return self._stranger(request, error)
            except NautilusError as error:
                return self.problem(request, error.status, error.message, error.code, visit)

        return endpoint

    async def resolve(self, request: Request) -> Identity | None:
        """The API's session resolver (`auth.SessionResolver`): writes need the token as header X-CSRF-Token."""
        signed_in = await self.signed_in(request)
        if signed_in is None:
            return None
        if request.method not in _SAFE_METHODS:
            self._check_csrf(request, request.headers.get("x-csrf-token"))
        return signed_in.identity

    async def signed_in(self, request: Request) -> SignedIn | None:
        cookie = request.cookies.get(self.cookie)
        return await self.sessions.find(cookie) if cookie else None

    def wants_page(self, request: Request) -> bool:
        """Whether an error should be answered with a page rather than JSON."""
        accepts = "text/html" in request.headers.get("accept", "")
        return accepts and not request.url.path.startswith(_NOT_PAGES)

    def problem(
        self,
        request: Request,
        status: int,
        message: str,
        code: str,
        visit: Visit | None = None,
        action: dict[str, str] | None = None,
    ) -> Response:
        """An error as a page, or as JSON where htmx or a script asked."""
        if request.headers.get("hx-request") == "true" or not self.wants_page(request):
            return JSONResponse({"message": message, "code": code}, status)
        if message == HTTPStatus(status).phrase:
            message = (
                "there is no page at this address"
                if status == 404
                else f"{request.method} does not work here"
            )
        title = _TITLES.get(status, HTTPStatus(status).phrase)
        if action is None and status >= 500 and request.method in _SAFE_METHODS:
            action = {"href": request.url.path, "words": "Try again"}
        if action is None and status == 401:
            action = {"href": _sign_in_address(request), "words": "Sign in"}
        sentence = words.sentence(message)
        return self.render(
            visit, "error.html", status, title=title, http_status=status, message=sentence, action=action
        )

    async def crash(self, request: Request, status: int, message: str, code: str) -> Response:
        """An error page for what no page's own endpoint caught; with the navigation where somebody is signed in."""
        visit = None
        with suppress(NautilusError):
            if (signed_in := await self.signed_in(request)) is not None:
                visit = Visit(request, signed_in.identity, signed_in.csrf_token, FormData())
        return self.problem(request, status, message, code, visit)

    async def _visit(self, request: Request) -> Visit:
        signed_in = await self.signed_in(request)
        if signed_in is None:
            raise SignInNeeded()
        form = FormData()
        if request.method not in _SAFE_METHODS:
            form = await _form(request)
            given = request.headers.get("x-csrf-token") or form.get("csrf_token")
            self._check_csrf(request, given if isinstance(given, str) else None)
        return Visit(request, signed_in.identity, signed_in.csrf_token, form)

    def _check_csrf(self, request: Request, candidate: str | None) -> None:
        site = request.headers.get("sec-fetch-site", "same-origin")
        cookie = request.cookies.get(self.cookie, "")
        if site not in ("same-origin", "none") or not self.sessions.is_csrf_token(cookie, candidate):
            raise CsrfRefused()

    def _stranger(self, request: Request, error: SignInNeeded) -> Response:
        if request.method in _SAFE_METHODS and request.headers.get("hx-request") != "true":
            return self.redirect(_sign_in_address(request))
        return self.problem(request, error.status, error.message, error.code)


async def _form(request: Request) -> FormData:
    """The fields of a form. Raises TooLarge."""
    if int(request.headers.get("content-length") or 0) > FORM_LIMIT_BYTES:
        raise TooLarge("this form is larger than a form may be")
    return await request.form(max_files=0, max_fields=200)


def _sign_in_address(request: Request) -> str:
    """Sign in and come back: to the page itself where it was asked for by GET, else home."""
    if request.method not in _SAFE_METHODS or request.url.path == "/":
        return "/sign-in"
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/sign-in?next={quote(path, safe='')}"


def page_number(request: Request) -> int:
    """`?page=`, 1 where it is missing or no page's number."""
    text = request.query_params.get("page", "1")
    return min(max(int(text), 1), 1_000_000) if text.isascii() and text.isdecimal() and len(text) < 9 else 1
