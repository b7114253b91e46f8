"""Names and passwords: checking them, counting failures, locking.

Source: GitLab's Devise settings (`maximum_attempts` 10, `unlock_in` 10 minutes).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from datetime import UTC, datetime

from pydantic import SecretStr
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import User
from nautilus_forge.errors import TooManyRequests
from nautilus_forge.users.entities import LOCK_TIME, is_locked
from nautilus_forge.users.password import is_password_right

MAXIMUM_ATTEMPTS = 10
_FAILURES_PER_ADDRESS = 30
_WINDOW_S = 60.0
_REMEMBER_S = 60.0
_MOST_REMEMBERED = 1000


class Throttle:
    """Failures by client address in a sliding window; kept in memory, bounded."""

    def __init__(self, limit: int = _FAILURES_PER_ADDRESS, window_s: float = _WINDOW_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def require_room(self, address: str) -> None:
        """Raises `TooManyRequests` for an address with too many failures of late."""
        recent = [at for at in self._failures.get(address, ()) if time.monotonic() - at < self._window_s]
        if len(recent) >= self._limit:
            raise TooManyRequests(int(self._window_s), "Retry later")

    def note_failure(self, address: str) -> None:
        now = time.monotonic()
        recent = [at for at in self._failures.pop(address, []) if now - at < self._window_s]
        self._failures[address] = [*recent, now][-self._limit :]
        while len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)


class RecentSuccesses:
    """Passwords that were right within the last minute, so that git's many requests cost one argon2 run.

    Keys are HMACs under a key of this process over hash and password: a changed password is unknown at once.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def _id(self, user: User, password: SecretStr) -> bytes:
        text = f"{user.id}\0{user.password_hash}\0{password.get_secret_value()}"
        return hmac.new(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()

    def has(self, user: User, password: SecretStr) -> bool:
        at = self._seen.get(self._id(user, password))
        return at is not None and time.monotonic() - at < _REMEMBER_S

    def add(self, user: User, password: SecretStr) -> None:
        self._seen[self._id(user, password)] = time.monotonic()
        while len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)


async def find_by_login(db: AsyncSession, login: str) -> User | None:
    """By user name or address, without regard to case."""
    lowered = login.strip().lower()
    return await db.scalar(
        select(User).where(or_(func.lower(User.username) == lowered, func.lower(User.email) == lowered))
    )


async def check_password(
    db: AsyncSession, login: str, password: SecretStr, recent: RecentSuccesses | None = None
) -> User | None:
    """The user, None for anything that is not right; a failure is counted (the caller must commit).

    Ten failures lock the account for ten minutes. An unknown name takes as long as a wrong password.
    """
    user = await find_by_login(db, login)
    if user is not None and recent is not None and recent.has(user, password) and not is_locked(user):
        return user
    right = await is_password_right(password, user.password_hash if user is not None else None)
    if user is None or is_locked(user):
        return None
    if not right:
        _count_failure(user)
        await db.flush()
        return None
    user.failed_attempts, user.locked_at = 0, None
    if recent is not None:
        recent.add(user, password)
    return user


def _count_failure(user: User) -> None:
    now = datetime.now(UTC)
    if user.locked_at is not None and now - user.locked_at >= LOCK_TIME:
        user.failed_attempts, user.locked_at = 0, None
    user.failed_attempts += 1
    if user.failed_attempts >= MAXIMUM_ATTEMPTS:
        user.locked_at = now
