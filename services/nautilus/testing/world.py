"""The whole management service in one process: a fake GitLab behind it, httpx as the browser in front."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from fastapi import FastAPI

from nautilus.app import create_app
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.settings import Settings
from nautilus.signin.oauth import Provider
from nautilus.testing.provider import FakeProvider

T = TypeVar("T")
EXTERNAL_URL = "http://nautilus.test"
GITLAB_URL = "http://gitlab.test"
CSRF = re.compile(r'name="csrf_token" value="([0-9a-f]{64})"')


@dataclass
class World:
    """The service under test and what stands around it."""

    app: FastAPI
    settings: Settings
    gitlab: MemoryGitLab
    provider: FakeProvider

    def browser(self) -> Browser:
        return Browser(self)


class Browser(httpx.AsyncClient):
    """Keeps cookies, follows no redirect, and asks for pages."""

    def __init__(self, world: World) -> None:
        transport = httpx.ASGITransport(app=world.app, raise_app_exceptions=False)
        super().__init__(
            transport=transport, base_url=world.settings.external_url, headers={"Accept": "text/html"}
        )
        self._world = world

    async def sign_in(self, username: str = "ada", next_path: str = "/") -> httpx.Response:
        """The whole way through GitLab; the last answer is the redirect to `next_path`."""
        begun = await self.get("/sign-in", params={"next": next_path})
        assert begun.status_code == 303, begun.text
        return await self.get(self._world.provider.authorize(begun.headers["location"], username))

    async def csrf_token(self) -> str:
        found = CSRF.search((await self.get("/projects/new")).text)
        assert found is not None
        return found[1]


def write_oauth_file(
    path: Path,
    client_id: str = "client",
    client_secret: str = "client-secret",  # noqa: S107
    external_url: str = EXTERNAL_URL,
) -> None:
    """What provision writes after it has registered us at GitLab."""
    body = {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uri": f"{external_url}/auth/callback",
    }
    path.write_text(json.dumps(body))


@asynccontextmanager
async def started(
    home: Path, database_url: str, external_url: str = EXTERNAL_URL, gitlab_url: str = GITLAB_URL
) -> AsyncIterator[World]:
    """The service with its data in `home`, ready to serve; users root (administrator), ada and bob."""
    secrets = home / "secrets"
    secrets.mkdir()
    (secrets / "session_key").write_text("0123456789abcdef" * 4)
    (secrets / "admin_token").write_text("glpat-admin")
    write_oauth_file(secrets / "oauth.json", external_url=external_url)
    settings = Settings.model_validate(
        {
            "home": home,
            "database_url": database_url,
            "external_url": external_url,
            "gitlab_url": gitlab_url,
            "gitlab_external_url": gitlab_url,
            "sign_in_url": gitlab_url,
        }
    )
    gitlab = MemoryGitLab()
    people = {"root": gitlab.add_user("root", "glpat-admin", is_admin=True)}
    people |= {name: gitlab.add_user(name, f"glpat-{name}") for name in ("ada", "bob")}
    provider = FakeProvider(people=people, access_tokens=gitlab.users)
    app = create_app(settings, gitlab=gitlab, provider=Provider(gitlab_url, gitlab_url, provider.answer))
    async with app.router.lifespan_context(app):
        await _until_ready(app)
        yield World(app, settings, gitlab, provider)


async def _until_ready(app: FastAPI) -> None:
    deadline = time.monotonic() + 60
    while app.state.parts.readiness.reason is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(app.state.parts.readiness.reason)
        await asyncio.sleep(0.01)


async def until(found: Callable[[], Awaitable[T | None]], timeout_s: float = 60) -> T:
    """The first value that `found` gives. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while (value := await found()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.02)
    return value
