"""The `nautilus-runner` command line. Exit status: 0 done, 1 refused or not running, 2 wrong use or configuration.

A group of commands is a module of `nautilus_runner.commands` with a function `add(app)`; what is heavy it imports
when a command runs.
"""

from __future__ import annotations

import os
import sys

import typer

from nautilus_runner import other_workers
from nautilus_runner.commands import (
    configuration,
    draining,
    gpus,
    jobs,
    prune,
    registering,
    registrations,
    selftest,
    serving,
    systemd,
)
from nautilus_runner.errors import ConfigurationError, RunnerError

app = typer.Typer(
    help="Runs the jobs of a GitLab or Nautilus server on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _group in (
    selftest,
    serving,
    registering,
    registrations,
    gpus,
    draining,
    jobs,
    configuration,
    systemd,
    prune,
):
    _group.add(app)


def main() -> None:
    """Entry point: errors of ours are one line, unless NAUTILUS_RUNNER_DEBUG is set."""
    notes = other_workers.adopt(os.environ)
    for note in notes if sys.argv[1:2] in (["register"], ["config"]) else ():
        print(f"nautilus-runner: {note}", file=sys.stderr)
    try:
        app()
    except RunnerError as error:
        if os.environ.get("NAUTILUS_RUNNER_DEBUG"):
            raise
        print(f"nautilus-runner: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
