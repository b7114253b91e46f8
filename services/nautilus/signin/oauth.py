"""GitLab as OAuth 2 provider: where to send the browser, and what we ask over the back channel.

Source: https://docs.gitlab.com/api/oauth2/ (authorization code with PKCE, refresh, revocation),
https://docs.gitlab.com/api/users/#get-the-current-user
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr

from nautilus.core.browsers import is_for_browsers
from nautilus.errors import GitLabError, GitLabRefused, GitLabUnauthenticated, GitLabUnavailable
from nautilus.settings import OAuthClient
from nautilus.signin.pending import PendingSignIn

SCOPES = "api openid"
_DEFAULT_LIFETIME_S = 7200
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """GitLab's answer over the back channel."""

    status: int
    body: bytes


Asking = Callable[[str, str, Mapping[str, str], Mapping[str, str], float], Answer]
"""A blocking request: method, path, form fields, headers, seconds. Raises OSError where nobody answers."""


@dataclass(frozen=True)
class Tokens:
    """What GitLab gave for one sign-in; `expires_at` is that of the access token."""

    access: SecretStr
    refresh: SecretStr | None
    expires_at: datetime


@dataclass(frozen=True)
class Account:
    """The GitLab user who signed in."""

    id: int
    username: str
    name: str
    is_admin: bool


class Provider:
    """GitLab at `back_url` (as this machine reaches it) and `front_url` (where browsers sign in).

    `pages_url`: where GitLab's own pages would be; the same where it is not said.

    Errors: GitLabUnavailable (no answer, 5xx, 429), GitLabUnauthenticated (the token or code is not good),
    GitLabRefused (another 4xx), GitLabError (an answer that we cannot read).
    """

    def __init__(
        self, back_url: str, front_url: str, asking: Asking | None = None, pages_url: str = ""
    ) -> None:
        self._back_url = back_url
        self.front_url = front_url
        self._asking = asking or _over_http(back_url)
        self._has_pages: bool | None = None if is_for_browsers(pages_url or front_url) else False

    def authorize_url(self, application: OAuthClient, pending: PendingSignIn) -> str:
        query = {
            "client_id": application.client_id,
            "redirect_uri": application.redirect_uri,
            "response_type": "code",
            "scope": SCOPES,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        return f"{self.front_url}/oauth/authorize?{urlencode(query)}"

    async def ensure_answers(self) -> None:
        """Raises GitLabUnavailable where a browser that is sent there would meet an error page."""
        await self._ask("GET", "/api/v4/version", allowed=(401, 403), timeout_s=3.0)

    async def has_pages(self) -> bool:
        """Whether GitLab has pages for projects, commits and pipelines that a browser can open; our own forge
        has none, and GitLab's usual port is one that browsers refuse.

        Asked until it answers, then remembered. Source: GitLab's config/routes/explore.rb.
        """
        if self._has_pages is None:
            try:
                answer = await asyncio.to_thread(self._asking, "GET", "/explore", {}, {}, 3.0)
            except OSError:
                return False
            if answer.status < 500:
                self._has_pages = answer.status < 400
        return self._has_pages or False

    async def exchange(self, application: OAuthClient, code: str, pending: PendingSignIn) -> Tokens:
        """The tokens for an authorization code; checks the nonce where GitLab sends an ID token."""
        body = await self._token(
            application,
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": application.redirect_uri,
                "code_verifier": pending.verifier,
            },
        )
        if "id_token" in body:
            _check_id_token(str(body["id_token"]), application.client_id, pending.nonce)
        return _tokens(body)

    async def refresh(self, application: OAuthClient, refresh_token: SecretStr) -> Tokens:
        """New tokens; the refresh token is used up by this."""
        data = {"grant_type": "refresh_token", "refresh_token": refresh_token.get_secret_value()}
        return _tokens(await self._token(application, data | {"redirect_uri": application.redirect_uri}))

    async def revoke(self, application: OAuthClient, token: SecretStr) -> None:
        data = {"token": token.get_secret_value(), **_credentials(application)}
        await self._ask("POST", "/oauth/revoke", data=data)

    async def account(self, access_token: SecretStr) -> Account:
        headers = {"Authorization": f"Bearer {access_token.get_secret_value()}"}
        body = await self._ask("GET", "/api/v4/user", headers=headers)
        try:
            is_admin = body.get("is_admin") is True
            return Account(int(body["id"]), str(body["username"]), str(body["name"]), is_admin)
        except (KeyError, TypeError, ValueError):
            raise GitLabError("GitLab's answer about the user cannot be read") from None

    async def _token(self, application: OAuthClient, data: dict[str, str]) -> dict[str, Any]:
        return await self._ask("POST", "/oauth/token", data=data | _credentials(application))

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        data: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        allowed: tuple[int, ...] = (),
        timeout_s: float = _TIMEOUT_S,
    ) -> dict[str, Any]:
        try:
            answer = await asyncio.to_thread(self._asking, method, path, data or {}, headers or {}, timeout_s)
        except OSError as error:
            raise GitLabUnavailable(f"GitLab at {self._back_url} does not answer", retry_after_s=5) from error
        if answer.status >= 500 or answer.status == 429:
            raise GitLabUnavailable(f"GitLab answers {answer.status}", retry_after_s=5)
        if answer.status in allowed:
            return {}
        body = _object(answer)
        if answer.status >= 400:
            raise _refusal(answer.status, body)
        return body


def _over_http(url: str) -> Asking:
    def ask(
        method: str, path: str, fields: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> Answer:
        # python-gitlab has loaded requests already: a client of another kind would cost memory.
        import requests

        with requests.Session() as session:
            session.trust_env = False
            found = session.request(
                method, url + path, data=fields, headers=headers, timeout=timeout_s, allow_redirects=False
            )
            return Answer(found.status_code, found.content)

    return ask


def _credentials(application: OAuthClient) -> dict[str, str]:
    return {"client_id": application.client_id, "client_secret": application.client_secret.get_secret_value()}


def _object(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refusal(status: int, body: dict[str, Any]) -> GitLabError:
    reason = str(body.get("error_description") or body.get("message") or body.get("error") or status)[:300]
    if status == 401 or body.get("error") == "invalid_grant":
        return GitLabUnauthenticated(f"GitLab did not accept the sign-in: {reason}")
    return GitLabRefused(f"GitLab refused: {reason}")


def _tokens(body: dict[str, Any]) -> Tokens:
    access = body.get("access_token")
    if not isinstance(access, str) or not access:
        raise GitLabError("GitLab's answer holds no access token")
    refresh = body.get("refresh_token")
    lifetime_s = body.get("expires_in")
    seconds = lifetime_s if isinstance(lifetime_s, int) and lifetime_s > 0 else _DEFAULT_LIFETIME_S
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return Tokens(SecretStr(access), SecretStr(refresh) if isinstance(refresh, str) else None, expires_at)


def _check_id_token(id_token: str, client_id: str, nonce: str) -> None:
    """Raises GitLabError unless the ID token was made for us and for this sign-in.

    Its signature needs no check: it came from the token endpoint itself, not through the browser.
    Source: OpenID Connect Core 1.0 §3.1.3.7.
    """
    now = time.time()
    try:
        payload = id_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        good = client_id in audience and claims.get("nonce") == nonce and float(claims["exp"]) > now - 60
    except (IndexError, KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise GitLabError("GitLab's ID token is not one for this sign-in")
