"""Asking again while a server is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nautilus_runner.errors import UnavailableError

T = TypeVar("T")
_MAX_WAIT_S = 20.0


async def persistently(call: Callable[[], Awaitable[T]], tries: int) -> T:
    """What `call` gives, asked up to `tries` times: after the wait that the server asks for, else after longer and
    longer ones, from half a second to twenty. Raises the last UnavailableError."""
    attempt = 0
    while True:
        try:
            return await call()
        except UnavailableError as error:
            attempt += 1
            if attempt >= tries:
                raise
            await asyncio.sleep(error.retry_after_s or min(0.25 * 2.0**attempt, _MAX_WAIT_S))
