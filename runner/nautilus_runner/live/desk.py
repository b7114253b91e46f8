"""Answers what is asked about a running job's folder, whoever asks: Nautilus over the held request, or a command.

A request: `{"verb": "list" | "look" | "read" | "write", "path", …}`. `read` takes `offset` (negative: from the end),
`length` (null: to the end that the file has now) and `wait_s`: how long to wait while there is nothing after `offset`.
`write` takes `length`, the bytes to come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nautilus_runner.errors import LiveRefused, RunnerError
from nautilus_runner.live.folder import PART, Item, LiveFolder, printable
from nautilus_runner.transport import describe

T = TypeVar("T")
_LOOK_EVERY_S = 0.2
_THREADS = 4
LONGEST_WAIT_S = 30.0


class Request(BaseModel):
    """Sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,100}$")
    verb: str
    path: str = Field(default="", max_length=4096)
    offset: int = 0
    length: int | None = Field(default=None, ge=0)
    wait_s: float = Field(default=0.0, ge=0)


@dataclass(frozen=True, slots=True)
class Answer:
    """`head` is JSON; `content` are the bytes of a read, as many as `head["length"]` unless the file shrinks."""

    head: dict[str, Any]
    content: AsyncGenerator[bytes, None] | None = None


Fetch = Callable[[], AsyncGenerator[bytes, None]]
"""Where a write's bytes come from."""


class Desk:
    """`folder` gives the job's folder, or None while (or once) there is none."""

    def __init__(self, folder: Callable[[], LiveFolder | None]) -> None:
        self._folder = folder

    async def answer(self, request: Request, fetch: Fetch | None = None) -> Answer:
        """Never raises but for cancellation: what goes wrong is `{"error": {"code", "message"}}`."""
        try:
            return await self._do(request, fetch)
        except LiveRefused as error:
            return refusal(error.code, str(error))
        except (RunnerError, OSError) as error:
            return refusal("broken", printable(describe(error)))

    async def _do(self, request: Request, fetch: Fetch | None) -> Answer:
        folder = self._folder()
        if folder is None:
            raise LiveRefused("not_ready", "the job has no folder yet: it is being prepared")
        match request.verb:
            case "list":
                found = await _call(folder.list, request.path)
                return Answer({"items": [one.as_json() for one in found.items], "is_cut": found.is_cut})
            case "look":
                return Answer({"item": (await _call(folder.look, request.path)).as_json()})
            case "read":
                return await _read(folder, request)
            case "write" if fetch is not None and request.length is not None:
                made = await _write(folder, request.path, request.length, fetch())
                return Answer({"item": made.as_json()})
        raise LiveRefused("unknown", f"this runner can't {request.verb[:40]!r}: it is older than the server")


def refusal(code: str, message: str) -> Answer:
    return Answer({"error": {"code": code, "message": message}})


async def _read(folder: LiveFolder, request: Request) -> Answer:
    item = await _call(folder.look, request.path)
    offset = request.offset if request.offset >= 0 else max(0, item.size + request.offset)
    until = time.monotonic() + min(request.wait_s, LONGEST_WAIT_S)
    while item.kind == "file" and item.size == offset and time.monotonic() < until:
        await asyncio.sleep(_LOOK_EVERY_S)
        item = await _call(folder.look, request.path)
    opened = await _call(folder.open, request.path, min(offset, item.size))
    left = max(0, opened.item.size - offset)
    length = left if request.length is None else min(left, request.length)
    head = {"item": opened.item.as_json(), "offset": offset, "length": length}
    return Answer(head, _parts(opened.content, length))


async def _parts(content: BinaryIO, length: int) -> AsyncGenerator[bytes, None]:
    """Up to `length` bytes; fewer where the file has shrunk."""
    try:
        while length and (data := await _call(content.read, min(PART, length))):
            length -= len(data)
            yield data
    finally:
        await asyncio.shield(_call(content.close))


async def _write(folder: LiveFolder, path: str, length: int, content: AsyncGenerator[bytes, None]) -> Item:
    writing = await _call(folder.write, path)
    try:
        total = 0
        async for data in content:
            total += len(data)
            if total > length:
                break
            await _call(writing.add, data)
        if total != length:
            raise LiveRefused(
                "broken", f"{length} bytes were announced, and {total} came: nothing is written"
            )
        return await _call(writing.finish)
    finally:
        await asyncio.shield(_call(writing.close))


async def _call(call: Callable[..., T], *args: Any) -> T:
    """A blocking call, in a thread that nothing but looking has: who looks slowly holds nobody else up."""
    return await asyncio.get_running_loop().run_in_executor(_threads(), call, *args)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, "live-files")
