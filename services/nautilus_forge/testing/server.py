"""A real forge in a thread of its own: uvicorn on a free port of the loopback, real Postgres, real git."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import SecretStr
from starlette.types import ASGIApp

from nautilus_forge.app import build_forge
from nautilus_forge.forge import Forge
from nautilus_forge.server import make_server
from nautilus_forge.settings import Settings

ROOT_PASSWORD = "correct horse battery"  # noqa: S105 — of a throw-away instance
ADMIN_TOKEN = "glpat-test-administrator-0001"  # noqa: S105
REGISTRATION_TOKEN = "GR1348941test-registration"  # noqa: S105

wrappers: list[Callable[[ASGIApp], ASGIApp]] = []
"""Put around the application of each forge that is started from then on (`testing.plugin` looks at the answers)."""


@dataclass(frozen=True)
class RunningForge:
    """`url` has no slash at its end. `socket_path`: the same forge on a unix socket, for git's hooks."""

    url: str
    forge: Forge
    loop: asyncio.AbstractEventLoop
    socket_path: Path

    @property
    def settings(self) -> Settings:
        return self.forge.settings


def settings_for(database_url: str, folder: Path, port: int) -> Settings:
    """Settings with the known secrets above, all files below `folder`."""
    files = {
        "root_password": ROOT_PASSWORD,
        "admin_token": ADMIN_TOKEN,
        "registration_token": REGISTRATION_TOKEN,
    }
    for name, value in files.items():
        (folder / name).write_text(value + "\n", encoding="utf-8")
    return Settings(
        database_url=SecretStr(database_url),
        data_dir=folder / "data",
        socket=folder / "forge.sock",
        spool_dir=folder / "spool",
        external_url=f"http://127.0.0.1:{port}",
        root_password_file=folder / "root_password",
        admin_token_file=folder / "admin_token",
        registration_token_file=folder / "registration_token",
    )


def _listening_on_a_free_port() -> socket.socket:
    """Named a TCP socket, because asyncio sends without delay only on those (else each answer takes 40 ms)."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    return listening


@contextmanager
def running_forge(
    database_url: str, folder: Path, configure: Callable[[Forge], None] | None = None, **changes: object
) -> Iterator[RunningForge]:
    """A forge that is ready; `configure` may change its parts before it starts, `changes` its settings."""
    listening = _listening_on_a_free_port()
    port = listening.getsockname()[1]
    settings = settings_for(database_url, folder, port).model_copy(update=changes)
    assert settings.socket is not None
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(settings.socket))
    unix.listen(128)
    started: list[RunningForge] = []
    failure: list[BaseException] = []
    up = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        forge = build_forge(settings)
        if configure is not None:
            configure(forge)
        server = make_server(settings, forge)
        for wrapper in wrappers:
            server.config.app = wrapper(cast(ASGIApp, server.config.app))
        loop = asyncio.get_running_loop()

        stop.append(lambda: loop.call_soon_threadsafe(server.end))
        started.append(RunningForge(f"http://127.0.0.1:{port}", forge, loop, settings.socket or folder))
        up.set()
        await server._serve(sockets=[listening, unix])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=run, name="forge", daemon=True)
    thread.start()
    up.wait(30)
    if failure or not started:
        raise RuntimeError("the forge did not start") from (failure[0] if failure else None)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}")
        yield started[0]
    finally:
        stop[0]()
        thread.join(10)


def _wait_until_ready(url: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/readiness", timeout=5):  # noqa: S310 — our own URL
                return
        except urllib.error.HTTPError as answer:
            reason = answer.read().decode()
        except OSError as error:
            reason = str(error)
        if time.monotonic() > end:
            raise RuntimeError(f"the forge is not ready: {reason}")
        time.sleep(0.02)
