"""A network that loses things: an HTTP proxy between runner and server that mistreats the requests it is told to.

drop        the request is not passed on, the connection closed
mute        passed on, but the answer never arrives: the client will send it again
truncate    only the first half of the body is passed on; the answer never arrives
shorten     only the first half is passed on, and the server's honest answer comes back
duplicate   passed on twice at once
replay      passed on, and once more after the next request has gone through
refuse      answered with 503
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

Fault = str
Plan = Callable[[str, str], Fault | None]


class FaultyProxy:
    """`plan(method, path)` names the fault of each request, or None."""

    def __init__(self, port: int, plan: Plan) -> None:
        self._target = port
        self._plan = plan
        self._replay: bytes | None = None
        self.counts: dict[str, int] = {}
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FaultyProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (found := await _read_message(reader)) is not None:
                answer = await self._treat(*found)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def _treat(self, head: bytes, body: bytes) -> bytes | None:
        method, path = head.split(b" ", 2)[:2]
        fault = self._plan(method.decode(), path.decode()) or ""
        self.counts[fault] = self.counts.get(fault, 0) + 1
        if fault == "drop":
            return None
        if fault == "refuse":
            return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
        if fault in ("truncate", "shorten"):
            half = body[: len(body) // 2]
            answer = await self._pass(_with_length(head, len(half)), half)
            return answer if fault == "shorten" else None
        answer = await self._pass(head, body)
        if fault == "duplicate":
            answer = await self._pass(head, body)
        if self._replay is not None:
            late, self._replay = self._replay, None
            await self._pass(late, b"")
        if fault == "replay":
            self._replay = head + body
        return None if fault == "mute" else answer

    async def _pass(self, head: bytes, body: bytes) -> bytes | None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return None
        try:
            writer.write(head + body)
            await writer.drain()
            found = await _read_message(reader)
            return b"".join(found) if found else None
        finally:
            writer.close()


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """Head (with its blank line) and body of a message with a Content-Length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head, await reader.readexactly(length)


def _with_length(head: bytes, length: int) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    lines.insert(1, b"Content-Length: %d" % length)
    return b"\r\n".join(lines)
