"""`python -m nautilus_forge`: the forge on its unix socket.

The socket is open before anything heavy is imported, so a client's connection waits instead of failing.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path


def open_socket(path: Path) -> socket.socket:
    """A listening unix socket at `path` that the gateway (same user) may connect to; a stale one is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o117)
    try:
        listening.bind(str(path))
    finally:
        os.umask(previous)
    listening.listen(1024)
    return listening


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit status 0 then, 2 for settings that do not do."""
    gc.disable()  # what is imported lives as long as the process: collecting meanwhile is a fifth of the start
    from pydantic import ValidationError

    from nautilus_forge.settings import Settings

    try:
        settings = Settings.from_environment(os.environ)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            name = "FORGE_" + "_".join(str(part) for part in detail["loc"]).upper()
            print(f"nautilus_forge: {name}: {detail['msg']}", file=sys.stderr)
        return 2
    if settings.socket is None:
        print("nautilus_forge: FORGE_SOCKET: not set", file=sys.stderr)
        return 2
    listening = open_socket(settings.socket)

    from nautilus_forge.server import serve

    serve(settings, listening)
    return 0


if __name__ == "__main__":
    sys.exit(main())
