"""Whole files of ours to a connection and from one, part by part: the loop never waits for the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

_PART = 1 << 20


def write_all(fd: int, data: bytes) -> None:
    """All of it, however little the kernel takes at a time. Blocking. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def receive(body: AsyncIterator[bytes], path: Path) -> None:
    """Make a file of what comes; one that is there is written over. Raises OSError, and what `body` raises."""
    with path.open("wb", buffering=0) as out:
        async for part in body:
            await asyncio.to_thread(write_all, out.fileno(), part)


async def parts_of(path: Path, start: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
    """A file's bytes from `start` on, no more than `size`, or to its end. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while data := await asyncio.to_thread(
            os.pread, fd, _PART if size is None else min(_PART, size), start
        ):
            yield data
            start += len(data)
            size = None if size is None else size - len(data)
    finally:
        os.close(fd)
