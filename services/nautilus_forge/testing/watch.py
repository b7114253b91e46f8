"""Sees every answer of a forge under test, and holds the successful ones against GitLab's contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus_forge import API_PREFIX
from nautilus_forge.testing.contract import Contract
from nautilus_forge.testing.served import served


class Watch:
    """`problems`: what is wrong with answers since it was last emptied (by the fixture of each test)."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.problems: list[str] = []
        self._routes = served()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application, with each answer looked at before its last byte is sent."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1")
            if scope["type"] != "http" or not path.startswith(API_PREFIX):
                await app(scope, receive, send)
                return
            await app(scope, receive, self._looking(scope["method"], path.removeprefix(API_PREFIX), send))

        return watched

    def _looking(self, method: str, path: str, send: Send) -> Callable[[Message], Any]:
        body = bytearray()
        status, is_json = 0, False

        async def look(message: Message) -> None:
            nonlocal status, is_json
            if message["type"] == "http.response.start":
                status = message["status"]
                is_json = (b"content-type", b"application/json") in message.get("headers", ())
            elif message["type"] == "http.response.body" and 200 <= status < 300:
                if is_json:
                    body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    self.note(method, path, status, json.loads(body) if body else None)
            await send(message)

        return look

    def note(self, method: str, path: str, status: int, body: Any) -> None:
        """Hold one successful answer against the contract; `path` is below `/api/v4`."""
        route = next((r for r in self._routes if r.method == method and r.pattern.fullmatch(path)), None)
        if route is not None:
            self.problems += self.contract.check(method, route.path, status, body)
