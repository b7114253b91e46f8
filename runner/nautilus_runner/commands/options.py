"""What several commands take, and where the running service leaves its status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nautilus_runner.settings import Settings, default_config

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        default_factory=default_config,
        show_default="NAUTILUS_RUNNER_CONFIG, or the user's own",
        help="The configuration file.",
    ),
]
"""Comes first among a command's parameters, since it has no default of its own."""
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def status_file(settings: Settings, config: Path) -> Path:
    return settings.status_file or config.absolute().parent / "status.json"
