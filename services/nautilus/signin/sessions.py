"""Sessions of the pages: made after sign-in, looked up by the cookie, ended by sign-out, disuse or GitLab.

A session lasts while it is used, at most 30 days. GitLab is asked about its user at most once a minute; while
GitLab does not answer, what it said last holds, so that the pages can say what is wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from pydantic import SecretStr
from sqlalchemy import delete, select, update

from nautilus.core.identity import Credential, CredentialKind, Identity
from nautilus.db.engine import Database
from nautilus.db.models.session import WebSession
from nautilus.errors import (
    GitLabError,
    GitLabForbidden,
    GitLabRefused,
    GitLabUnauthenticated,
    GitLabUnavailable,
    NotReady,
)
from nautilus.settings import OAuthClient
from nautilus.signin.oauth import Account, Provider, Tokens
from nautilus.signin.sealing import seal, unseal

logger = logging.getLogger(__name__)

UNUSED_FOR = timedelta(days=7)
AT_MOST = timedelta(days=30)
CHECK_EVERY = timedelta(minutes=1)
_EARLY = timedelta(seconds=60)
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class SignedIn:
    """A browser's session: who it is, and the token that its writes must carry."""

    identity: Identity
    csrf_token: str = field(repr=False)


class Sessions:
    """One per process. `key` and `application` read their files at each use; both may not be there yet."""

    def __init__(
        self,
        database: Database,
        provider: Provider,
        *,
        key: Callable[[], SecretStr | None],
        application: Callable[[], OAuthClient | None],
    ) -> None:
        self._database = database
        self._provider = provider
        self._key = key
        self._application = application
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def key(self) -> bytes:
        """Raises NotReady while provision has not written it."""
        key = self._key()
        if key is None:
            raise NotReady("the key of the sessions is not there yet", retry_after_s=2)
        return key.get_secret_value().encode()

    def application(self) -> OAuthClient:
        """Ours at GitLab. Raises NotReady while provision has not registered it."""
        application = self._application()
        if application is None:
            raise NotReady("sign-in is not set up yet: Nautilus is not registered at GitLab", retry_after_s=2)
        return application

    async def start(self, account: Account, tokens: Tokens) -> SecretStr:
        """A new session; the value is the browser's alone and can never be read from here again."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        row = WebSession(
            token_sha256=_digest(token),
            created_at=now,
            expires_at=now + UNUSED_FOR,
            **self._of_account(account, now),
            **self._of_tokens(tokens, token),
        )
        async with self._database.transaction() as session:
            await session.execute(delete(WebSession).where(WebSession.expires_at < now))
            session.add(row)
        return SecretStr(token)

    async def find(self, cookie: str) -> SignedIn | None:
        """None where no session that still holds has this cookie. Raises DatabaseUnavailable, NotReady."""
        if not _COOKIE.fullmatch(cookie):
            return None
        row = await self._row(cookie)
        if row is None:
            return None
        now = datetime.now(UTC)
        if row.access_expires_at - _EARLY < now or row.checked_at + CHECK_EVERY < now:
            row = await self._confirmed(cookie)
        if row is None or (access := unseal(row.access_token, cookie, self.key())) is None:
            return None
        credential = Credential(CredentialKind.OAUTH, access)
        identity = Identity(row.user_id, row.username, row.name, row.is_admin, credential)
        return SignedIn(identity, self.csrf_token(cookie))

    async def end(self, cookie: str) -> None:
        """Forgets the session and, where GitLab answers, revokes its token there."""
        row = await self._row(cookie)
        if row is None:
            return
        await self._forget(row.id)
        access = unseal(row.access_token, cookie, self.key())
        try:
            if access is not None:
                await self._provider.revoke(self.application(), access)
        except (GitLabError, GitLabUnavailable, NotReady) as error:
            logger.info("sign-out of %s: the token was not revoked at GitLab: %s", row.username, error)

    def csrf_token(self, cookie: str) -> str:
        """What writes of this session must carry: bound to it, and of no use for anything else."""
        return hmac.digest(self.key(), b"nautilus csrf:" + cookie.encode(), "sha256").hex()

    def is_csrf_token(self, cookie: str, candidate: str | None) -> bool:
        return hmac.compare_digest(
            self.csrf_token(cookie).encode(), (candidate or "").encode("utf-8", "replace")
        )

    async def _row(self, cookie: str) -> WebSession | None:
        query = select(WebSession).where(
            WebSession.token_sha256 == _digest(cookie), WebSession.expires_at > datetime.now(UTC)
        )
        async with self._database.read() as session:
            return await session.scalar(query)

    async def _confirmed(self, cookie: str) -> WebSession | None:
        """The session after GitLab was asked (once, whoever waits); None where GitLab ended it."""
        lock = self._locks.setdefault(_digest(cookie), asyncio.Lock())
        async with lock:
            row, now = await self._row(cookie), datetime.now(UTC)
            if row is None:
                return None
            must_refresh = row.access_expires_at - _EARLY < now
            if not must_refresh and row.checked_at + CHECK_EVERY >= now:
                return row
            try:
                changes = await self._asked(row, cookie, must_refresh)
            except (GitLabUnauthenticated, GitLabForbidden, GitLabRefused) as error:
                logger.info("the session of %s ends: %s", row.username, error)
                await self._forget(row.id)
                return None
            except (GitLabUnavailable, GitLabError, NotReady) as error:
                logger.info("the session of %s goes on unconfirmed: %s", row.username, error)
                return row
            async with self._database.transaction() as session:
                await session.execute(update(WebSession).where(WebSession.id == row.id).values(**changes))
            return await self._row(cookie)

    async def _asked(self, row: WebSession, cookie: str, must_refresh: bool) -> dict[str, object]:
        """The columns that follow from GitLab's answers. Raises GitLabUnauthenticated, GitLabRefused, …"""
        access = unseal(row.access_token, cookie, self.key())
        refresh = row.refresh_token and unseal(row.refresh_token, cookie, self.key())
        changes: dict[str, object] = {}
        if must_refresh or access is None:
            if not refresh:
                raise GitLabUnauthenticated("its token ended and cannot be renewed")
            tokens = await self._provider.refresh(self.application(), refresh)
            access, changes = tokens.access, self._of_tokens(tokens, cookie)
            # A refresh token works once: what it gave must not be lost if the next question fails.
            async with self._database.transaction() as session:
                await session.execute(update(WebSession).where(WebSession.id == row.id).values(**changes))
        now = datetime.now(UTC)
        changes |= self._of_account(await self._provider.account(access), now)
        return changes | {"expires_at": min(now + UNUSED_FOR, row.created_at + AT_MOST)}

    async def _forget(self, session_id: int) -> None:
        async with self._database.transaction() as session:
            await session.execute(delete(WebSession).where(WebSession.id == session_id))

    @staticmethod
    def _of_account(account: Account, now: datetime) -> dict[str, object]:
        return {
            "user_id": account.id,
            "username": account.username,
            "name": account.name,
            "is_admin": account.is_admin,
            "checked_at": now,
        }

    def _of_tokens(self, tokens: Tokens, cookie: str) -> dict[str, object]:
        return {
            "access_token": seal(tokens.access, cookie, self.key()),
            "refresh_token": tokens.refresh and seal(tokens.refresh, cookie, self.key()),
            "access_expires_at": tokens.expires_at,
        }


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
