"""`gpus`: what this machine has."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nautilus_runner.commands.options import AsJson


def add(app: typer.Typer) -> None:
    app.command("gpus")(show_gpus)


def show_gpus(
    docker_host: Annotated[str, typer.Option("--docker-host", help="The daemon to ask.")] = "",
    as_json: AsJson = False,
) -> None:
    """The GPUs of this machine, by the driver; in a container without it, by a probe container."""
    from nautilus_runner.executors.gpu_probe import find_all

    found = [gpu.as_json() for gpu in find_all(docker_host)]
    if as_json:
        print(json.dumps(found))
        return
    for gpu in found:
        print(f"{gpu['uuid']}  {gpu['name']}  {gpu['memory_mib']} MiB")
    if not found:
        print("no GPUs were found")
