"""Uvicorn around the application: graceful within a second, quiet, on a socket that is already open."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from nautilus_forge.app import build_forge, create_app
from nautilus_forge.forge import Forge
from nautilus_forge.settings import Settings

GRACE_S = 1


class Server(uvicorn.Server):
    """Tells the forge at once that it has to end, so that held requests can answer."""

    def __init__(self, config: uvicorn.Config, forge: Forge) -> None:
        super().__init__(config)
        self._forge = forge

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the server, with exit status 0 (uvicorn's own way dies of the signal)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        yield

    def end(self) -> None:
        """Stop accepting, let held requests answer, then stop; past the grace time without them."""
        self._forge.stopping.set()
        self.should_exit = True


def make_server(settings: Settings, forge: Forge) -> Server:
    """A server that is not started; `serve(sockets=[…])` runs it."""
    config = uvicorn.Config(
        create_app(settings, forge),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config, forge)


def serve(settings: Settings, listening: socket.socket) -> None:
    """Run until a signal says to end."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    import uvloop

    async def run() -> None:
        forge = build_forge(settings)
        server = make_server(settings, forge)
        gc.freeze()
        gc.enable()
        await server.serve(sockets=[listening])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
