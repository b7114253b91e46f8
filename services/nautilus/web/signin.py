"""Sign in at GitLab, come back, sign out."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nautilus.errors import NautilusError
from nautilus.signin.oauth import Provider
from nautilus.signin.pending import LIFETIME_S, PendingSignIn, cookie_name, local_path
from nautilus.signin.sessions import AT_MOST
from nautilus.web.site import Endpoint, Site, Visit

PUBLIC_PATHS = frozenset({"/sign-in", "/auth/callback", "/signed-out"})


class SignIn:
    """The routes of signing in and out."""

    def __init__(self, site: Site, provider: Provider) -> None:
        self._site = site
        self._provider = provider

    def routes(self) -> list[Route]:
        return [
            Route("/sign-in", self._answering(self.begin), methods=["GET"]),
            Route("/auth/callback", self._answering(self.finish), methods=["GET"]),
            Route("/signed-out", self.signed_out, methods=["GET"]),
            Route("/sign-out", self._site.page(self.end), methods=["POST"]),
        ]

    async def begin(self, request: Request) -> Response:
        """To GitLab's authorization page, or straight back where the browser is signed in already."""
        next_path = local_path(request.query_params.get("next"))
        if await self._site.signed_in(request) is not None:
            return self._site.redirect(next_path)
        application = self._site.sessions.application()
        home = urlsplit(application.redirect_uri)
        if request.headers.get("host", "") != home.netloc and "moved" not in request.query_params:
            # The cookie of this sign-in must be set where GitLab sends the browser back to.
            query = urlencode({"next": next_path, "moved": 1})
            return self._site.redirect(f"{home.scheme}://{home.netloc}/sign-in?{query}")
        await self._provider.ensure_answers()
        pending = PendingSignIn.begin(next_path)
        answer = self._site.redirect(self._provider.authorize_url(application, pending))
        self._set_pending(answer, pending)
        return answer

    async def finish(self, request: Request) -> Response:
        """GitLab sends the browser back here with a code or an error."""
        query = request.query_params
        name = cookie_name(query.get("state", ""))
        value = request.cookies.get(name, "") if name else ""
        pending = PendingSignIn.open(value, self._site.sessions.key()) if value else None
        if name is None or pending is None or pending.state != query["state"]:
            return self._again(request, "This sign-in is not known here any more: it was begun too long ago.")
        if "code" not in query:
            reason = query.get("error_description") or query.get("error") or "no reason given"
            return self._again(request, f"GitLab did not let you in: {reason[:300]}", name)
        tokens = await self._provider.exchange(self._site.sessions.application(), query["code"], pending)
        account = await self._provider.account(tokens.access)
        cookie = await self._site.sessions.start(account, tokens)
        answer = self._site.redirect(local_path(pending.next))
        self._forget_pending(answer, name)
        answer.set_cookie(
            self._site.cookie,
            cookie.get_secret_value(),
            max_age=int(AT_MOST.total_seconds()),
            path="/",
            secure=self._site.is_secure,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def end(self, visit: Visit) -> Response:
        """Sign out of Nautilus; the browser's session at GitLab is GitLab's."""
        await self._site.sessions.end(visit.request.cookies[self._site.cookie])
        answer = self._site.redirect("/signed-out")
        answer.delete_cookie(self._site.cookie, path="/", secure=self._site.is_secure, httponly=True)
        return answer

    async def signed_out(self, request: Request) -> Response:
        return self._site.render(None, "signed_out.html")

    def _answering(self, endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except NautilusError as error:
                return self._site.problem(request, error.status, error.message, error.code)

        return answer

    def _again(self, request: Request, message: str, pending_name: str | None = None) -> Response:
        action = {"href": "/sign-in", "words": "Sign in again"}
        answer = self._site.problem(request, 403, message, "sign_in_failed", action=action)
        if pending_name:
            self._forget_pending(answer, pending_name)
        return answer

    def _set_pending(self, answer: Response, pending: PendingSignIn) -> None:
        name = cookie_name(pending.state)
        assert name is not None
        answer.set_cookie(
            name,
            pending.seal(self._site.sessions.key()),
            max_age=LIFETIME_S,
            path="/auth/callback",
            secure=self._site.is_secure,
            httponly=True,
            samesite="lax",
        )

    def _forget_pending(self, answer: Response, name: str) -> None:
        answer.delete_cookie(name, path="/auth/callback", secure=self._site.is_secure, httponly=True)
