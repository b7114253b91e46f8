"""A server of files that behaves as badly as the network: it cuts in the middle, forgets ranges, wants credentials."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Served:
    """`cuts`: after how many bytes each next answer is cut off; `tokens`: whose JOB-TOKEN or Authorization is good."""

    content: bytes
    cuts: list[int] = field(default_factory=list)
    has_ranges: bool = True
    has_etag: bool = True
    has_length: bool = True
    tokens: frozenset[str] = frozenset()
    status: int = 200
    location: str = ""
    gate: asyncio.Event | None = None
    """Where set, an answer waits for it in the middle of its body."""

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class DataHost:
    """`async with DataHost() as host`: `host.files[path] = Served(…)`, `host.url`; `requests` is what it was asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def downloads_of(self, path: str) -> int:
        """How many answers began with the first byte and more than one byte was asked for."""
        return sum(1 for at, headers in self.requests if at == path and not headers.get("range"))

    async def __aenter__(self) -> DataHost:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    path = head[0].split(" ")[1].partition("?")[0]
                    headers = {
                        k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:]) if k
                    }
                    self.requests.append((path, headers))
                    if not await self._answer(path, headers, writer):
                        break
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, path: str, headers: Mapping[str, str], writer: asyncio.StreamWriter) -> bool:
        """False: the connection is cut."""
        served = self.files.get(path)
        given = {headers.get("job-token", ""), headers.get("authorization", "")}
        if served is None or (served.tokens and not served.tokens & given):
            status = "404 Not Found" if served is None else "403 Forbidden"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return True
        if served.location:
            writer.write(
                f"HTTP/1.1 302 Found\r\nLocation: {served.location}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            await writer.drain()
            return True
        return await self._send(served, headers, writer)

    async def _send(self, served: Served, headers: Mapping[str, str], writer: asyncio.StreamWriter) -> bool:
        start, end = _range(served, headers)
        body = served.content[start:end]
        status = (
            f"{served.status} OK"
            if start is None or not headers.get("range") or not served.has_ranges
            else "206 Partial"
        )
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Accept-Ranges: bytes"]
        if not served.has_length:
            lines[1] = "Connection: close"
        if status.startswith("206"):
            lines.append(f"Content-Range: bytes {start}-{end - 1}/{len(served.content)}")
        if served.has_etag:
            lines.append(f"ETag: {served.etag}")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        is_probe = end - start == 1
        cut = served.cuts.pop(0) if served.cuts and not is_probe else len(body)
        sent = body[:cut]
        if served.gate is not None and not is_probe:
            writer.write(sent[: len(sent) // 2])
            await writer.drain()
            await served.gate.wait()
            sent = sent[len(sent) // 2 :]
        writer.write(sent)
        await writer.drain()
        self.sent += cut
        return cut == len(body) and served.has_length


def _range(served: Served, headers: Mapping[str, str]) -> tuple[int, int]:
    whole = (0, len(served.content))
    asked = headers.get("range", "").removeprefix("bytes=")
    if not asked or not served.has_ranges or headers.get("if-range", served.etag) != served.etag:
        return whole
    first, _, last = asked.partition("-")
    return int(first), min(int(last) + 1, len(served.content)) if last else len(served.content)
