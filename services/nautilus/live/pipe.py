"""Bytes on their way from one request to another, a few at a time: the slower of the two sets the pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

_MOST_PARTS = 8
"""How many parts (of up to 64 KiB, as the server reads them) wait here at most."""
PATIENCE_S = 60.0
"""How long one side waits for the other before it gives up."""


class PipeBroken(Exception):
    """The other side has gone, or does nothing for too long."""


class Pipe:
    """One writer, one reader, of one event loop."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._turned = asyncio.Event()
        self._is_over = False
        self._is_whole = False
        self._is_left = False

    async def put(self, part: bytes) -> None:
        """Raises PipeBroken when the reader has gone."""
        while len(self._parts) >= _MOST_PARTS and not self._is_left:
            await self._turn()
        if self._is_left:
            raise PipeBroken("the reader has gone")
        self._parts.append(part)
        self._turned.set()

    def end(self, *, is_whole: bool) -> None:
        """Nothing more will come; `is_whole`: since all has come."""
        if not self._is_over:
            self._is_over, self._is_whole = True, is_whole
        self._turned.set()

    def leave(self) -> None:
        """The reader goes."""
        self._is_left = True
        self._turned.set()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """Raises PipeBroken where the end comes too early."""
        try:
            while True:
                while self._parts:
                    part = self._parts.popleft()
                    self._turned.set()
                    yield part
                if self._is_over:
                    break
                await self._turn()
            if not self._is_whole:
                raise PipeBroken("the writer has gone before the end")
        finally:
            self.leave()

    async def _turn(self) -> None:
        self._turned.clear()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._turned.wait()
        except TimeoutError:
            raise PipeBroken("the other side does nothing") from None
