"""The management service behind a real HTTP server on a free port of the loopback, in the test's own event
loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn

from nautilus.app import Parts, create_app
from nautilus.gitlab.port import GitLab
from nautilus.settings import Settings

T = TypeVar("T")
SERVICE_TOKEN = "glpat-service-of-nautilus"  # noqa: S105 — of a throw-away instance
SESSION_KEY = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class RunningManagement:
    """`client(token)` speaks to it as the holder of that GitLab token."""

    url: str
    parts: Parts
    settings: Settings

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20)


def management_settings(database_url: str, home: Path, **values: Any) -> Settings:
    """Settings below `home`, with the service's token and the session key in their files."""
    (home / "secrets").mkdir(parents=True, exist_ok=True)
    settings = Settings(**{"home": home, "database_url": database_url, **values})
    settings.admin_token_file.write_text(SERVICE_TOKEN + "\n")
    settings.session_key_file.write_text(SESSION_KEY + "\n")
    return settings


@asynccontextmanager
async def running_management(
    settings: Settings, gitlab: GitLab | None = None
) -> AsyncIterator[RunningManagement]:
    """A service that is ready. With `gitlab` None it speaks to the server at `settings.gitlab_url`."""
    app = create_app(settings, gitlab=gitlab)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    running = RunningManagement(f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.parts, settings)
    try:
        async with asyncio.timeout(60):
            await running.parts.readiness.wait()
        yield running
    finally:
        running.parts.events.close()
        server.should_exit = True
        await serving


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, limit_s: float = 60.0) -> T:
    """The first result of `look` that is not None or False; AssertionError after `limit_s`."""
    end = time.monotonic() + limit_s
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < end, f"{what}: not within {limit_s:g} s"
        await asyncio.sleep(0.02)
