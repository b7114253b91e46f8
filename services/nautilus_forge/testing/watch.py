"""Sees every answer of a forge under test, and holds the successful ones against GitLab's contract."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus_forge import API_PREFIX
from nautilus_forge.testing.contract import Contract

TRACE = ("PATCH", "/jobs/{id}/trace")
"""Served by `traces.endpoint` outside of the routers."""


def served_routes() -> list[tuple[str, str, re.Pattern[str]]]:
    """Method, template and pattern (below `/api/v4`) of each route that the forge serves, in order of matching."""
    from fastapi.routing import APIRoute

    from nautilus_forge.app import api_routers

    found = [
        (method, re.sub(r":path\}", "}", route.path), route.path_regex)
        for router in api_routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
    return [*found, (*TRACE, re.compile(r"/jobs/[^/]+/trace"))]


class Watch:
    """`problems`: what is wrong with answers since it was last emptied (by the fixture of each test)."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.problems: list[str] = []
        self._routes = served_routes()

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
        template = next(
            (t for m, t, pattern in self._routes if m == method and pattern.fullmatch(path)), None
        )
        if template is not None:
            self.problems += self.contract.check(method, template, status, body)
