"""`config check` and `config show`: what the runner makes of its file and its environment."""

from __future__ import annotations

import json
import os
from typing import Any

import typer

from nautilus_runner import environment
from nautilus_runner.commands.options import AsJson, Config
from nautilus_runner.settings import RunnerSettings, Settings, load_settings

config_app = typer.Typer(help="The configuration, as the runner reads it.", no_args_is_help=True)
_OTHERS = frozenset(
    environment.PREFIX + name
    for name in (
        "CONFIG",
        "TOKEN",
        "NAME",
        "EXECUTOR",
        "IMAGE",
        "TAGS",
        "DEBUG",
        "USER",
        "COMMAND",
        "STOPSIGNAL",
    )
)
"""Variables that are no keys: those of `register`, of the program, and of the appliance that starts it."""


def add(app: typer.Typer) -> None:
    app.add_typer(config_app, name="config")


@config_app.command("check")
def check(config: Config, as_json: AsJson = False) -> None:
    """Whether the configuration is right: status 2 and the first mistake where it is not."""
    settings = load_settings(config)
    known = environment.variables(Settings, RunnerSettings)
    said = sorted(name for name in os.environ if name in known)
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith(environment.PREFIX) and name not in known and name not in _OTHERS
    )
    if as_json:
        body = {"config": str(config), "runners": len(settings.runners), "by_environment": said}
        print(json.dumps({**body, "unknown_variables": unknown}))
        return
    print(f"{config}: {len(settings.runners)} registrations; nothing is wrong")
    for name in said:
        print(f"{name} sets {'.'.join(known[name])}")
    for name in unknown:
        print(f"{name} is no setting; ignored")


@config_app.command("show")
def show(config: Config, as_json: AsJson = False) -> None:
    """Every key with its value, defaults included and secrets left out."""
    body: dict[str, Any] = json.loads(load_settings(config).model_dump_json())
    if as_json:
        print(json.dumps(body))
        return
    for line in _lines(body, ""):
        print(line)


def _lines(value: Any, path: str) -> list[str]:
    """`path = value` for each key, in the file's own words."""
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _lines(inner, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [line for n, inner in enumerate(value) for line in _lines(inner, f"{path}[{n}]")]
    return [f"{path} = {json.dumps(value, ensure_ascii=False)}"]
