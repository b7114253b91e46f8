"""Who calls: every route asks `Authenticator.user` or `.caller`, or is listed as public. Denied by default.

Sources: https://docs.gitlab.com/api/rest/authentication/, https://docs.gitlab.com/ci/jobs/ci_job_token/.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from pydantic import SecretStr

from nautilus.core.identity import Credential, CredentialKind, Identity
from nautilus.errors import Forbidden, GitLabForbidden, GitLabUnauthenticated, Unauthenticated
from nautilus.gitlab.port import GitLab
from nautilus.guard import guarded

CACHE_S = 10.0
"""How long GitLab's answer about a token is believed: a revoked token works at most this much longer."""
_CACHE_ENTRIES = 4096
_TOKEN_LIMIT_BYTES = 4096
_JOB_TOKEN_PREFIXES = ("glcbt-", "eyJ")
"""CI job tokens: `glcbt-…`, or a JWT since GitLab 17.6 (https://docs.gitlab.com/ci/jobs/ci_job_token/)."""

SessionResolver = Callable[[Request], Awaitable[Identity | None]]
"""Finds the identity behind a page's session cookie, or None where there is none. On methods other than
GET, HEAD and OPTIONS it raises Forbidden unless the request proves that it came from our pages (CSRF
token)."""


@dataclass(frozen=True)
class _Entry:
    identity: Identity
    until: float


class Authenticator:
    """Knows callers by asking GitLab with their own token. One per process."""

    def __init__(self, gitlab: GitLab, *, cache_s: float = CACHE_S) -> None:
        self._gitlab = gitlab
        self._cache_s = min(cache_s, CACHE_S)
        self._known: dict[str, _Entry] = {}
        self._asking: dict[str, asyncio.Task[Identity]] = {}
        self._resolve_session: SessionResolver | None = None

    def use_sessions(self, resolver: SessionResolver) -> None:
        """Accepts the pages' session cookies too, where a request carries no token."""
        self._resolve_session = resolver

    @guarded
    async def user(self, request: Request) -> Identity:
        """FastAPI dependency: a person (or their token). Raises Unauthenticated; Forbidden for a job's
        token."""
        identity = await self.caller(request)
        if identity.is_job:
            raise Forbidden("a job token is for tracking only; use a personal access token")
        return identity

    @guarded
    async def caller(self, request: Request) -> Identity:
        """FastAPI dependency: a person or a running job. Raises Unauthenticated, GitLabUnavailable."""
        identity = await self.find(request)
        if identity is None:
            raise Unauthenticated("sign in, or send a GitLab token as Authorization: Bearer or PRIVATE-TOKEN")
        return identity

    async def find(self, request: Request) -> Identity | None:
        """None where the request carries neither token nor session; raises as `caller` for those that are
        wrong."""
        known: Identity | None = getattr(request.state, "identity", None)
        if known is not None:
            return known
        candidates = credentials_of(request)
        if candidates:
            known = await self._first_valid(candidates)
        elif self._resolve_session is not None:
            known = await self._resolve_session(request)
        request.state.identity = known
        return known

    async def identify(self, credential: Credential) -> Identity:
        """Whose credential this is; GitLab's answer is believed for up to 10 s. Raises
        GitLabUnauthenticated."""
        key, now = credential.key, time.monotonic()
        entry = self._known.get(key)
        if entry is not None and entry.until > now:
            return entry.identity
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(credential))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        identity = await asyncio.shield(task)
        self._remember(key, identity)
        return identity

    def forget(self, credential: Credential) -> None:
        """Asks GitLab anew at the next use (sign-out)."""
        self._known.pop(credential.key, None)

    async def _first_valid(self, candidates: list[Credential]) -> Identity:
        for credential in candidates:
            try:
                return await self.identify(credential)
            except (GitLabUnauthenticated, GitLabForbidden):
                continue
        raise Unauthenticated(
            "GitLab does not accept this token: it is wrong, expired, revoked, or its job has ended"
        )

    async def _ask(self, credential: Credential) -> Identity:
        account = self._gitlab.acting(credential)
        if credential.kind is CredentialKind.JOB:
            owner = await account.current_job()
            user, job = owner.user, owner.job
            return Identity(user.id, user.username, user.name, False, credential, job)
        user = await account.whoami()
        return Identity(user.id, user.username, user.name, user.is_admin, credential)

    def _remember(self, key: str, identity: Identity) -> None:
        now = time.monotonic()
        if len(self._known) >= _CACHE_ENTRIES:
            self._known = {k: e for k, e in self._known.items() if e.until > now}
            while len(self._known) >= _CACHE_ENTRIES:
                self._known.pop(next(iter(self._known)))
        self._known[key] = _Entry(identity, now + self._cache_s)


def credentials_of(request: Request) -> list[Credential]:
    """The credentials that a request may carry, likeliest first; empty where it carries no token.

    `PRIVATE-TOKEN` and `JOB-TOKEN` say what they are. A Bearer token, or a Basic password, may be a
    person's or a job's: its prefix decides the order. Raises Unauthenticated for a header that cannot be
    read.
    """
    headers = request.headers
    if token := headers.get("private-token"):
        return [Credential(CredentialKind.PERSONAL, _checked(token))]
    if token := headers.get("job-token"):
        return [Credential(CredentialKind.JOB, _checked(token))]
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if not scheme:
        return []
    secret = _checked(_basic_password(value) if scheme.lower() == "basic" else value.strip())
    if scheme.lower() not in ("basic", "bearer"):
        raise Unauthenticated("the Authorization header must be Bearer or Basic")
    as_job = Credential(CredentialKind.JOB, secret)
    as_user = Credential(CredentialKind.OAUTH, secret)
    return (
        [as_job, as_user] if secret.get_secret_value().startswith(_JOB_TOKEN_PREFIXES) else [as_user, as_job]
    )


def _basic_password(value: str) -> str:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthenticated("the Authorization header is not valid Basic authentication") from None
    return text.partition(":")[2]


def _checked(token: str) -> SecretStr:
    if not token or len(token) > _TOKEN_LIMIT_BYTES or not token.isascii() or not token.isprintable():
        raise Unauthenticated("this is not a token")
    return SecretStr(token)
