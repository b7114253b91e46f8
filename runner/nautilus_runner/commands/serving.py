"""`run`, `status`, `version`: the service and what it says of itself."""

from __future__ import annotations

import json
import os

import typer

from nautilus_runner import __version__, environment, status
from nautilus_runner.commands.options import AsJson, Config, status_file
from nautilus_runner.settings import load_settings


def add(app: typer.Typer) -> None:
    app.command()(run)
    app.command("status")(show_status)
    app.command()(version)


def run(config: Config) -> None:
    """Serve: take jobs until told to end (SIGTERM leaves jobs running, SIGQUIT ends them)."""
    from nautilus_runner import service

    service.main(["run", "--config", str(config)])


def show_status(config: Config, as_json: AsJson = False) -> None:
    """What the running service does; status 1 where none runs."""
    if not config.exists() and environment.registration(os.environ) is None:
        reason = f"{config} is not there yet: `nautilus-runner register` writes it"
        print(json.dumps({"is_running": False, "state": "down", "reason": reason}) if as_json else reason)
        raise typer.Exit(1)
    path = status_file(load_settings(config), config)
    found = status.read_status(path)
    is_running = bool(found and found["is_running"])
    if as_json:
        print(json.dumps(found or {"is_running": False, "state": "down", "reason": f"{path} is not there"}))
    elif found is None or not is_running:
        print(f"not running ({path} is {'stale' if found else 'not there'})")
    else:
        slots = found["slots"]
        print(f"{found['state']}, pid {found['pid']}, {slots['busy']} of {slots['total']} slots busy")
        if found["reason"]:
            print(found["reason"])
        if room := status.room_of(found.get("capacity") or {}):
            print(room)
        for warning in found.get("warnings") or ():
            print(f"warning: {warning}")
        for job in found["jobs"]:
            print(f"  job {job['id']}: {job['state']} since {job['started_at']}{status.details_of(job)}")
    if not is_running:
        raise typer.Exit(1)


def version() -> None:
    """The version."""
    print(f"nautilus-runner {__version__}")
