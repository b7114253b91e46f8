"""Whether the service may serve: its database answers and has the schema that this version was written for.

Until then every request but the health routes is a 503 that says why.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from nautilus.db.engine import Database
from nautilus.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 0.2
_OPEN_PREFIXES = ("/-/", "/api/v1/health", "/static/")


class Readiness:
    """`reason` says what we wait for; None means ready. Once ready it stays so: later outages are 503 per
    request."""

    def __init__(self, database: Database, head: str) -> None:
        """`head` is the schema revision that this version needs."""
        self._database = database
        self._head = head
        self.reason: str | None = "starting"
        self._ready = asyncio.Event()

    async def wait(self) -> None:
        """Returns when the service is ready."""
        await self._ready.wait()

    async def watch(self) -> None:
        """Asks the database, with back-off, until it is ready."""
        wait_s = FIRST_WAIT_S
        while (reason := await self.check()) is not None:
            if reason != self.reason:
                logger.info("not ready: %s", reason)
                self.reason = reason
                wait_s = FIRST_WAIT_S
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, LONGEST_WAIT_S)
        self.reason = None
        self._ready.set()
        logger.info("ready")

    async def check(self) -> str | None:
        """Why the service could not serve right now; None where it could."""
        try:
            revision = await asyncio.wait_for(self._database.schema_revision(), 2.0)
        except (DatabaseUnavailable, TimeoutError):
            return "waiting for the database"
        if revision == self._head:
            return None
        return f"waiting for the database schema: it is at {revision or 'nothing'}, this version needs {self._head}"


class ReadinessGate:
    """ASGI: answers 503 with the reason, as JSON or a page, until the service is ready."""

    def __init__(self, app: ASGIApp, readiness: Readiness) -> None:
        self._app = app
        self._readiness = readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = self._readiness.reason
        if scope["type"] != "http" or reason is None or scope["path"].startswith(_OPEN_PREFIXES):
            await self._app(scope, receive, send)
            return
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        body, content_type = refusal(reason, wants_html="text/html" in accept)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"1"),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def refusal(reason: str, *, wants_html: bool) -> tuple[bytes, str]:
    """Body and content type of the answer while we are not ready."""
    if not wants_html:
        body = {"message": f"Nautilus is starting: {reason}", "code": "not_ready"}
        return json.dumps(body).encode(), "application/json"
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=1>"
        "<meta name=viewport content='width=device-width'><title>Nautilus is starting</title>"
        f"<h1>Nautilus is starting</h1><p>{html.escape(reason)}</p>"
    )
    return page.encode(), "text/html; charset=utf-8"
