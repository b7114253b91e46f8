"""`gpus`: what this machine has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nautilus_runner import status
from nautilus_runner.commands.options import AsJson, Config, status_file
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.settings import load_settings


def add(app: typer.Typer) -> None:
    app.command("gpus")(show_gpus)


def show_gpus(
    config: Config,
    docker_host: Annotated[str, typer.Option("--docker-host", help="The daemon to ask.")] = "",
    as_json: AsJson = False,
) -> None:
    """The GPUs: the running service's, with what becomes of each; without one, those that this machine has."""
    found = _of_service(config)
    if found is None:
        from nautilus_runner.executors.gpu_probe import find_all

        found = [gpu.as_json() for gpu in find_all(docker_host)]
    if as_json:
        print(json.dumps(found))
        return
    for gpu in found:
        state = f"  {gpu['state']}" if "state" in gpu else ""
        why = f" ({gpu['reason']})" if gpu.get("reason") else ""
        print(f"{gpu['uuid']}  {gpu['name']}  {gpu['memory_mib']} MiB{state}{why}")
    if not found:
        print("no GPUs were found")


def _of_service(config: Path) -> list[dict[str, Any]] | None:
    """None where no service runs with this configuration."""
    try:
        found = status.read_status(status_file(load_settings(config), config))
    except ConfigurationError:
        return None
    return found["gpus"] if found and found["is_running"] else None
