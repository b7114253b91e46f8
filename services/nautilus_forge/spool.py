"""The body of a large upload as a file: what the gateway has spooled, else received into a file of ours."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from nautilus_forge.errors import BadRequest, Forbidden, PayloadTooLarge
from nautilus_forge.files import TEMPORARY_PREFIX, write_all
from nautilus_forge.settings import Settings

_HEADER = "x-nautilus-body-file"


class BodyIsGone(BadRequest):
    """The gateway names a file that is not there (any more)."""

    def __init__(self) -> None:
        super().__init__(body={"error": "file is missing"})


@dataclass(frozen=True)
class Body:
    """`fd` is open for reading; `path` names the same file until the block ends, whoever removes it then."""

    fd: int
    path: Path

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size


def is_spooled(request: Request) -> bool:
    """Has the gateway asked already, and taken the body in? (No client can say so.)"""
    return _HEADER in request.headers


@asynccontextmanager
async def body_of(
    request: Request, settings: Settings, limit_bytes: int, too_large: type[PayloadTooLarge] = PayloadTooLarge
) -> AsyncIterator[Body]:
    """The whole body. Raises `too_large`, `Forbidden` for a path that is not the gateway's, `BodyIsGone`."""
    named = request.headers.get(_HEADER)
    if named:
        body = Body(_open_spooled(settings, named), Path(named))
        try:
            yield body
        finally:
            os.close(body.fd)
        return
    folder = settings.tmp_dir
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    try:
        await _receive(request, fd, limit_bytes, too_large)
        yield Body(fd, Path(name))
    finally:
        os.close(fd)
        Path(name).unlink(missing_ok=True)


def _open_spooled(settings: Settings, named: str) -> int:
    path = Path(named)
    spool = settings.spool_dir
    if spool is None or not path.is_absolute() or not path.resolve().is_relative_to(spool.resolve()):
        raise Forbidden
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BodyIsGone from error


async def _receive(request: Request, fd: int, limit_bytes: int, too_large: type[PayloadTooLarge]) -> None:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise too_large
        if chunk:
            await asyncio.to_thread(write_all, fd, chunk)
