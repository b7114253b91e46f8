"""Passwords: argon2id, computed beside the event loop and never two at a time."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

from pydantic import SecretStr

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_ONE_AT_A_TIME = asyncio.Semaphore(1)
"""argon2id takes 19 MiB for each run: a flood of sign-ins must not become a flood of memory."""


@cache
def _hasher() -> PasswordHasher:
    """Source: OWASP Password Storage Cheat Sheet (argon2id, m=19456, t=2, p=1)."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)


@cache
def _hash_of_nothing() -> str:
    return _hasher().hash("no user has this password")


async def hash_password(password: SecretStr) -> str:
    """The encoded argon2id hash, with its salt and parameters."""
    async with _ONE_AT_A_TIME:
        return await asyncio.to_thread(lambda: _hasher().hash(password.get_secret_value()))


async def is_password_right(password: SecretStr, expected: str | None) -> bool:
    """Takes as long for a user without a password (or no user at all: None) as for any other."""
    async with _ONE_AT_A_TIME:
        right = await asyncio.to_thread(_verify, expected or _hash_of_nothing(), password.get_secret_value())
    return right and expected is not None


def _verify(encoded: str, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(encoded, password)
    except (VerificationError, InvalidHashError):
        return False
