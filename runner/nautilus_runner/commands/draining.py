"""`drain`: this machine takes no more jobs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import AsJson, Config


def add(app: typer.Typer) -> None:
    app.command()(drain)


def drain(
    config: Config,
    wait: Annotated[bool, typer.Option("--wait", help="Return when no job is left.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take jobs again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take no more jobs, also after a restart, until --undo; those at work go on."""
    from nautilus_runner.control_socket import ask

    said: dict[str, Any] = {}
    for said in ask(config, "drain", wait=wait, undo=undo):
        if not as_json:
            print(_told(said), flush=True)
    if as_json:
        print(json.dumps(said))


def _told(said: dict[str, Any]) -> str:
    if said["state"] != "draining":
        return "takes jobs again"
    jobs = ", ".join(f"{job['id']} ({job['state']})" for job in said["jobs"])
    return f"drained; jobs at work: {jobs}" if jobs else "drained; no job is left"
