"""A GitLab that knows only sign-in: authorization code with PKCE, refresh, revocation, the current user.

Behaves as Doorkeeper in GitLab does where `signin.oauth` can tell the difference; `is_down` makes it answer 502.
Source: https://docs.gitlab.com/api/oauth2/, RFC 6749 §4.1, RFC 7636 §4.6.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit

from nautilus.gitlab.port import User
from nautilus.signin.oauth import Answer


@dataclass
class Grant:
    """An authorization code that was given out; it works once."""

    user: str
    challenge: str
    nonce: str
    redirect_uri: str


@dataclass
class FakeProvider:
    """`answer` goes into `signin.oauth.Provider`.

    `access_tokens` may be the `users` of a `MemoryGitLab`, which then knows the tokens that are given out here.
    """

    client_id: str = "client"
    client_secret: str = "client-secret"  # noqa: S105
    people: dict[str, User] = field(default_factory=lambda: {"ada": User(7, "ada", "Ada Lovelace", False)})
    """By username."""
    access_lifetime_s: int = 7200
    is_down: bool = False
    grants: dict[str, Grant] = field(default_factory=dict)
    access_tokens: dict[str, User] = field(default_factory=dict)
    refresh_tokens: dict[str, User] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Paths of the requests so far."""

    def authorize(self, url: str, username: str) -> str:
        """What the browser does at `/oauth/authorize` when `username` consents: the address it is sent back to."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        if query["client_id"] != self.client_id or query["code_challenge_method"] != "S256":
            raise ValueError(f"not a request of ours: {url}")
        code = secrets.token_urlsafe(16)
        self.grants[code] = Grant(username, query["code_challenge"], query["nonce"], query["redirect_uri"])
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def answer(
        self, method: str, path: str, fields: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> Answer:
        """As `signin.oauth.Asking`."""
        self.asked.append(path)
        if self.is_down:
            return Answer(502, b"Bad Gateway")
        if path == "/api/v4/version":
            return _json(401, {"message": "401 Unauthorized"})
        if path == "/api/v4/user":
            return self._user(headers.get("Authorization", ""))
        if path == "/oauth/token":
            return self._token(fields)
        if path == "/oauth/revoke":
            self.access_tokens.pop(fields.get("token", ""), None)
            return _json(200, {})
        return _json(404, {"message": "404 Not Found"})

    def _user(self, authorization: str) -> Answer:
        user = self.access_tokens.get(authorization.removeprefix("Bearer "))
        if user is None:
            return _json(401, {"error": "invalid_token", "error_description": "Token was revoked."})
        body = {"id": user.id, "username": user.username, "name": user.name}
        return _json(200, body | ({"is_admin": True} if user.is_admin else {}))

    def _token(self, fields: Mapping[str, str]) -> Answer:
        if (fields.get("client_id"), fields.get("client_secret")) != (self.client_id, self.client_secret):
            return _json(401, {"error": "invalid_client"})
        nonce = ""
        if fields.get("grant_type") == "refresh_token":
            user = self.refresh_tokens.pop(fields.get("refresh_token", ""), None)
        else:
            grant = self.grants.pop(fields.get("code", ""), None)
            user = (
                self.people[grant.user]
                if grant and _proves(fields.get("code_verifier", ""), grant, fields)
                else None
            )
            nonce = grant.nonce if grant else ""
        if user is None:
            reason = "The provided authorization grant is invalid, expired, or revoked."
            return _json(400, {"error": "invalid_grant", "error_description": reason})
        access, refresh = secrets.token_hex(16), secrets.token_hex(16)
        self.access_tokens[access], self.refresh_tokens[refresh] = user, user
        body = {
            "access_token": access,
            "token_type": "Bearer",
            "refresh_token": refresh,
            "scope": "api openid",
        }
        body |= {"id_token": self._id_token(nonce)} if nonce else {}
        return _json(200, body | {"expires_in": self.access_lifetime_s})

    def _id_token(self, nonce: str) -> str:
        claims = {"aud": self.client_id, "nonce": nonce, "exp": time.time() + 120}
        return ".".join(_text(json.dumps(part).encode()) for part in ({"alg": "none"}, claims, ""))


def _json(status: int, body: Mapping[str, object]) -> Answer:
    return Answer(status, json.dumps(body).encode())


def _proves(verifier: str, grant: Grant, fields: Mapping[str, str]) -> bool:
    challenge = _text(hashlib.sha256(verifier.encode()).digest())
    return challenge == grant.challenge and fields.get("redirect_uri") == grant.redirect_uri


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
