"""What `docker run` commonly gets wrong, said in one line before anything starts. Only in the image."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from nautilus.appliance.errors import HomeUnusable
from nautilus.appliance.layout import Layout

ALIAS = Path("/var/opt/mlreef")
"""MLReef's name of the data folder; a link to ours."""

SOCKET = Path("/var/run/docker.sock")

_MOUNTS = Path("/proc/self/mountinfo")
_MOST_SKEW_S = 60.0


def refuse_mistakes(layout: Layout) -> None:
    """Raises HomeUnusable where starting would lose or hide data, or could never succeed."""
    refuse_nameless_user()
    refuse_two_volumes(layout.home, _MOUNTS.read_text())


def refuse_nameless_user() -> None:
    """`--user` with an id that the image does not know: PostgreSQL, git and ssh need a name for it."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise HomeUnusable(
            f"user id {os.geteuid()} has no name in this image: start without --user (the services then run as "
            "nautilus, 990), or with --user 990:990 and a volume of that owner"
        ) from None


def refuse_two_volumes(home: Path, mountinfo: str) -> None:
    """Two volumes on the one folder: the last one mounted would hide the other, with everything in it.

    `mountinfo`: see proc_pid_mountinfo(5); its fifth field is where something is mounted, links resolved.
    """
    targets = [_unescaped(line.split()[4]) for line in mountinfo.splitlines() if line]
    if targets.count(str(home)) > 1:
        raise HomeUnusable(
            f"two volumes are mounted at {home} ({ALIAS} is another name of it), and one would hide the other: "
            "mount a single one, at either name"
        )


def warnings(layout: Layout, bundled_runner: bool) -> Iterator[str]:
    """What does not keep the appliance from starting, but from being what was wanted; one line each."""
    if layout.home.stat().st_dev == Path("/").stat().st_dev:
        yield (
            f"no volume is mounted at {layout.home}: the data goes with this container. "
            f"Add `--volume nautilus-data:{layout.home}`"
        )
    if bundled_runner and "DOCKER_HOST" not in os.environ and not SOCKET.is_socket():
        yield _about_socket()
    last = last_seen(layout)
    if last - time.time() > _MOST_SKEW_S:
        yield (
            f"the clock says {_utc(time.time())}, but this appliance ran at {_utc(last)}: set the host's clock. "
            "Sign-ins, tokens and certificates go by it"
        )


def _about_socket() -> str:
    if SOCKET.exists():
        found = f"{SOCKET} is not a socket: Docker does not run on the host, or its socket lies elsewhere"
    else:
        found = f"no Docker socket at {SOCKET}: add `--volume {SOCKET}:{SOCKET}`"
    return f"{found}. The bundled runner waits for it; NAUTILUS_BUNDLED_RUNNER=off where other machines run the jobs"


def last_seen(layout: Layout) -> float:
    """When the appliance last ran for sure, in seconds since 1970 by its own clock; 0 when it never did."""
    times = [path.stat().st_mtime for path in (layout.appliance_file, layout.runner_status) if path.exists()]
    return max(times, default=0.0)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _unescaped(field: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        field = field.replace(code, character)
    return field
