"""Asking nginx itself whether it would start with a configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

from nautilus_gateway.errors import ConfigurationRefused, NginxMissing

_TIMEOUT_S = 30


def check(path: Path, nginx: str = "nginx") -> None:
    """Runs `nginx -t` on the file at `path` (which makes the temporary folders that it names).

    Raises ConfigurationRefused with nginx's own words, or NginxMissing.
    """
    argv = [nginx, "-t", "-q", "-e", "stderr", "-c", str(path.resolve())]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except FileNotFoundError as error:
        raise NginxMissing(f"{nginx} was not found: run `apt-get install nginx-light`") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigurationRefused(f"{nginx} -t said nothing for {_TIMEOUT_S} s about {path}") from error
    if done.returncode != 0:
        raise ConfigurationRefused(done.stderr.strip() or f"{nginx} -t ended with {done.returncode}")
