"""Starts the management service: `python -m nautilus`, with the environment as its only argument.

The socket is listening before anything heavy is imported, so that nobody finds it closed while we start.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nautilus.settings import Settings

GRACE_S = 1
"""How long open requests may take to end after SIGTERM; event streams are told to end at once."""
BACKLOG = 512


def main() -> int:
    from nautilus.errors import NautilusError
    from nautilus.settings import Settings

    try:
        settings = Settings.from_environment()
        listener = listen(settings.socket)
        _serve(settings, listener)
    except NautilusError as error:
        sys.stderr.write(f"nautilus: {error}\n")
        return 1
    return 0


def listen(path: Path) -> socket.socket:
    """A listening unix socket at `path`, in the place of a dead one.

    Raises SettingError where another process answers there, where it is no socket, or the path cannot be
    used.
    """
    from nautilus.errors import SettingError

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead(path)
        listener.bind(str(path))
        path.chmod(0o660)
    except OSError as error:
        listener.close()
        raise SettingError(f"cannot listen on {path}: {error.strerror or error}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _remove_dead(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(0, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
        else:
            raise OSError(0, "another management service is listening there")


def _serve(settings: Settings, listener: socket.socket) -> None:
    import gc
    import logging

    gc.disable()  # what is imported lives as long as the process: collecting meanwhile is a tenth of the start

    import uvicorn

    from nautilus.app import create_app
    from nautilus.server import Server

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("urllib3", "sqlalchemy", "asyncio", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.umask(0o027)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        date_header=False,
        proxy_headers=True,
        forwarded_allow_ips="*",
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
    )
    gc.freeze()
    gc.enable()
    Server(config, app.state.parts.events.close).run(sockets=[listener])


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(
        status
    )  # a thread that waits for GitLab's answer would hold the interpreter's own exit for seconds
