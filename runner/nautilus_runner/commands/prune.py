"""`prune`: what this runner keeps and nobody uses goes."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from nautilus_runner.commands.options import AsJson, Config


def add(app: typer.Typer) -> None:
    app.command()(prune)


def prune(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All that no job uses, not only what is too much.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove leftovers of jobs, and inputs, caches and images beyond their limits; nothing that is not ours."""
    from nautilus_runner.control_socket import ask_once
    from nautilus_runner.errors import NotRunning

    wish = {"all": everything, "dry_run": dry_run}
    try:
        said = ask_once(config, "prune", timeout_s=None, **wish)
    except NotRunning:
        from nautilus_runner.pruning.alone import prune_alone

        said = prune_alone(config, is_all=everything, is_dry=dry_run)
    if as_json:
        print(json.dumps(said))
        return
    for removal in said["removals"]:
        print(_line(removal))
    for removal in said["kept"]:
        print(f"{_line(removal)} - is in use or can't be removed")
    what = "would go" if dry_run else "removed"
    print(f"{len(said['removals'])} things, {_size(said['total_bytes'])}, {what}")


def _line(removal: dict[str, Any]) -> str:
    name = removal["about"] or removal["name"]
    return f"{_size(removal['size_bytes']):>10}  {removal['kind']:<9}  {removal['why']:<8}  {name}"


def _size(size: int) -> str:
    from nautilus_runner.disk import mib

    return mib(size)
