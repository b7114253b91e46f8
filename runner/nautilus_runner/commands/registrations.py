"""`list`, `verify`, `unregister`: the registrations that the configuration has."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from nautilus_runner.commands.options import AsJson, Config
from nautilus_runner.settings import load_settings


def add(app: typer.Typer) -> None:
    app.command("list")(list_runners)
    app.command()(verify)
    app.command()(unregister)


def list_runners(config: Config, as_json: AsJson = False) -> None:
    """The registrations in the configuration."""
    settings = load_settings(config)
    rows = [
        {"name": r.name, "id": r.id, "url": r.url, "executor": r.executor, "token": f"{r.short_token}…"}
        for r in settings.runners
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))


def verify(config: Config, as_json: AsJson = False) -> None:
    """Ask each server whether it still knows this runner; status 1 where one does not."""
    from nautilus_runner import registration

    settings = load_settings(config)
    rows = []
    for runner in settings.runners:
        is_known = asyncio.run(registration.verify(runner, config))
        rows.append({"name": runner.name, "url": runner.url, "is_valid": is_known})
        if not as_json:
            print(f"{runner.label} at {runner.url}: {'is valid' if is_known else 'is not known any more'}")
    if as_json:
        print(json.dumps(rows))
    if not all(row["is_valid"] for row in rows):
        raise typer.Exit(1)


def unregister(
    config: Config,
    name: Annotated[str, typer.Option()] = "",
    url: Annotated[str, typer.Option()] = "",
    token: Annotated[str, typer.Option(envvar="CI_SERVER_TOKEN")] = "",
) -> None:
    """Leave a server and remove the registration from the configuration."""
    from nautilus_runner import registration

    settings = load_settings(config, {})  # what the file has
    gone = asyncio.run(registration.unregister(config, settings, name, url, token))
    print(f"{gone.label} has left {gone.url}.")
