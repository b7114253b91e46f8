"""A service behind the gateway, in a thread of the test: it answers the gateway's questions and keeps what it saw.

It stands in for the forge and for management at the seam of docs/reference/internals.md, section "Gateway";
the real ones are held to the same seam by the acceptance tests.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_GIT_SUFFIXES = ("/info/refs", "/git-upload-pack", "/git-receive-pack")
_ACCESS_DENIED = b"HTTP Basic: Access denied."
_NOT_FOUND = b"The project you were looking for could not be found or you don't have permission to view it."


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. `body_bytes` counts what had arrived when the answer was complete."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body_bytes: int = 0
    spooled: Path | None = None


@dataclass
class StandIn:
    """`users`: password by name. `readable`/`writable`: users by project path; "" is the anonymous one.

    `refusal`: status of a "no" to the gateway's question, instead of 403 (git) and 401 (uploads).
    """

    socket: Path
    files: Path
    users: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, Path] = field(default_factory=dict)
    readable: dict[str, set[str]] = field(default_factory=dict)
    writable: dict[str, set[str]] = field(default_factory=dict)
    connections: int = 0
    seen: list[Seen] = field(default_factory=list)
    next_event: threading.Event = field(default_factory=threading.Event)
    refusal: int = 0
    has_left: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """Everything but the users."""
        for memory in (self.repositories, self.readable, self.writable, self.seen):
            memory.clear()
        self.connections = 0
        self.refusal = 0
        self.next_event.clear()
        self.has_left.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Seen(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            headers,
        )
        await self._answer(request, receive, send)

    async def _answer(self, request: Seen, receive: Receive, send: Send) -> None:
        match request.path.split("/")[1:]:
            case ["internal", "git", question]:
                self.seen.append(request)
                await self._git(request, question, send)
            case ["internal", "upload", "authorize"]:
                self.seen.append(request)
                await _reply(send, 200 if self._may_upload(request.headers) else self.refusal or 401)
            case ["api", "v4", "jobs", _, "artifacts"] | ["api", "2.0", "mlflow-artifacts", "artifacts", *_]:
                await self._upload(request, receive, send)
            case [*_, "gitlab-lfs", "objects", _, _]:
                await self._upload(request, receive, send)
            case ["accel", *rest]:
                self.seen.append(request)
                await _reply(
                    send,
                    200,
                    b"not this",
                    {"x-accel-redirect": "/" + "/".join(rest), "content-type": "text/x-test"},
                )
            case ["events"]:
                await self._events(send)
            case ["slow"]:
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.has_left.set()
            case _:
                await self._echo(request, receive, send)

    async def _git(self, request: Seen, question: str, send: Send) -> None:
        uri = request.headers["x-original-uri"]
        path, _, query = uri.partition("?")
        suffix = next((one for one in _GIT_SUFFIXES if path.endswith(one)), "")
        project = path.removeprefix("/").removesuffix(suffix).removesuffix(".git")
        is_push = "git-receive-pack" in (path.rsplit("/", 1)[-1], parse_qs(query).get("service", [""])[0])
        user = self._user(request.headers)
        allowed = (self.writable if is_push else self.readable).get(project, set())
        if user is not None and user in allowed and project in self.repositories:
            if question == "denied":
                await _reply(send, 503)
                return
            identity = {
                "x-git-repository": str(self.repositories[project]),
                "x-git-project-id": "7",
                "x-git-user-id": "42" if user else "",
                "x-git-username": user,
                "x-git-protocol-allowed": "git-receive-pack" if is_push else "git-upload-pack",
            }
            await _reply(send, 200, headers=identity)
        elif user in (None, ""):
            challenge = {
                "www-authenticate": 'Basic realm="GitLab"',
                "content-type": "text/plain; charset=utf-8",
            }
            await _reply(send, 401, _ACCESS_DENIED if question == "denied" else b"", challenge)
        elif question == "authorize":
            await _reply(send, self.refusal or 403)
        elif user in self.readable.get(project, set()):
            await _reply(
                send,
                403,
                b"You are not allowed to push code to this project.",
                {"content-type": "text/plain"},
            )
        else:
            await _reply(send, 404, _NOT_FOUND, {"content-type": "text/plain"})

    def _user(self, headers: dict[str, str]) -> str | None:
        """Name of who is meant, "" for nobody, None for wrong credentials."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return ""
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name if self.users.get(name) == password else None

    def _may_upload(self, headers: dict[str, str]) -> bool:
        return headers.get("job-token") == "good" or headers.get("authorization") == "Bearer good"

    async def _upload(self, request: Seen, receive: Receive, send: Send) -> None:
        """Takes the spooled file by a hard link, as a service does, or says what an unauthorised client gets."""
        named = request.headers.get("x-nautilus-body-file")
        if not self._may_upload(request.headers):
            self.seen.append(request)
            await _reply(send, 403, b'{"message":"403 Forbidden"}', {"content-type": "application/json"})
            return
        spooled = Path(named) if named else None
        body = await _body(receive)
        self.seen.append(Seen(**{**request.__dict__, "body_bytes": len(body), "spooled": spooled}))
        if spooled is not None:
            (self.files / "taken").hardlink_to(spooled)
        await _reply(send, 201, b"{}", {"content-type": "application/json"})

    async def _events(self, send: Send) -> None:
        head = [
            (b"content-type", b"text/event-stream"),
            (b"x-accel-buffering", b"no"),
            (b"cache-control", b"no-cache"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send(
            {"type": "http.response.body", "body": b"event: state\ndata: first\n\n", "more_body": True}
        )
        await asyncio.to_thread(self.next_event.wait, 30)
        await send({"type": "http.response.body", "body": b"event: end\ndata: last\n\n"})

    async def _echo(self, request: Seen, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        self.seen.append(Seen(**{**request.__dict__, "body_bytes": len(body)}))
        answer = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
        }
        await _reply(send, 200, json.dumps(answer).encode(), {"content-type": "application/json"})


@contextlib.contextmanager
def serving(service: StandIn) -> Iterator[StandIn]:
    """Runs the service on its socket until the block ends."""

    class Counting(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            service.connections += 1
            super().connection_made(transport)

    config = uvicorn.Config(
        service, uds=str(service.socket), http=Counting, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    waited = threading.Event()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError(f"the stand-in did not start on {service.socket}")
        waited.wait(0.005)
    try:
        yield service
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _reply(send: Send, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
    head = {"content-length": str(len(body))} | (headers or {})
    raw = [(name.encode(), value.encode()) for name, value in head.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
