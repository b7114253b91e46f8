"""Docker's own client, for tests that build images and look at containers from outside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def docker(*arguments: str, timeout_s: float = 120, check: bool = True) -> str:
    """Debian's own client where there are several; returns what it printed on stdout."""
    program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout


def has_daemon() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
