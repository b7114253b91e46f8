"""`drain`, `preempt`: this machine takes no more jobs; a job goes back to its server."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import AsJson, Config


def add(app: typer.Typer) -> None:
    app.command()(drain)
    app.command()(preempt)


def drain(
    config: Config,
    wait: Annotated[bool, typer.Option("--wait", help="Return when no job is left.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take jobs again.")] = False,
    preempt: Annotated[
        bool, typer.Option("--preempt", help="Also give the jobs at work back, with their checkpoints.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take no more jobs, also after a restart, until --undo; those at work go on."""
    from nautilus_runner.control_socket import ask

    said: dict[str, Any] = {}
    for said in ask(config, "drain", None if wait else 30.0, wait=wait, undo=undo, preempt=preempt):
        if not as_json:
            print(_told(said), flush=True)
    if as_json:
        print(json.dumps(said))


def preempt(
    config: Config,
    job: Annotated[list[int], typer.Argument(help="Ids of jobs that are at work here, see `status`.")],
) -> None:
    """Ask jobs to end (SIGTERM) and give them back: their next attempt finds their checkpoint."""
    from nautilus_runner.control_socket import ask_once

    said = ask_once(config, "preempt", jobs=job)
    print(f"asked to end: {', '.join(str(one) for one in said['jobs'])}")


def _told(said: dict[str, Any]) -> str:
    if said["state"] != "draining":
        return "takes jobs again"
    jobs = ", ".join(f"{job['id']} ({job['state']})" for job in said["jobs"])
    return f"drained; jobs at work: {jobs}" if jobs else "drained; no job is left"
