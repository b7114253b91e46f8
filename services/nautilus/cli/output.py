"""What every command shares: results on stdout, progress on stderr, errors as one line with a way out."""

from __future__ import annotations

import json
import re
import socket
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from nautilus.appliance.settings import ApplianceSettings

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES = {
    0: "done",
    1: "failed; the line on stderr says what to do",
    2: "the command line or a setting cannot be used",
    3: "a port is taken",
    4: "the data folder cannot be used (permissions, full disk)",
    5: "an appliance already runs on that data folder",
    6: "no appliance runs on that data folder",
    7: "no usable PostgreSQL, or the data is of another major version",
    8: "a needed program is missing",
    9: "a set-up step did not succeed",
    10: "not ready in time",
    11: "the server refused the request (its message is shown)",
    12: "an experiment or a test did not succeed",
    130: "interrupted",
}
"""Documented in docs/reference/cli.md (a test compares)."""


class CommandError(Exception):
    """A command that cannot go on: one line that says what to do, and the exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def progress_console() -> Console:
    """Rich's console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def emit(value: Any, as_json: bool, show: Callable[[], None]) -> None:
    """One JSON document on one line of stdout, or the readable form that `show` prints."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
        sys.stdout.flush()
    else:
        show()


def as_typed(command: str) -> str:
    """How a user of this appliance types a command of ours: in the checkout, or on the container's host.

    Docker names a container's host after the container, unless it is told otherwise.
    """
    if not ApplianceSettings.from_environment().in_image:
        return f"./nautilus {command}"
    host = socket.gethostname()
    container = host if re.fullmatch("[0-9a-f]{12}", host) else "CONTAINER"
    return f"docker exec {container} nautilus {command}"


def fail(error: BaseException, exit_code: int, debug: bool) -> NoReturn:
    """Prints the line, or one for each thing that is wrong (and with --debug the traceback), and ends."""
    if debug:
        traceback.print_exception(error)
    for line in str(error).splitlines() or [type(error).__name__]:
        sys.stderr.write(f"nautilus: {' '.join(line.split())}\n")
    raise SystemExit(exit_code)
