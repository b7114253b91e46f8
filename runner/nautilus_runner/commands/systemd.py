"""`service install|show`: the runner as a unit of systemd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from nautilus_runner.commands.options import Config
from nautilus_runner.errors import ConfigurationError, RunnerError
from nautilus_runner.settings import load_settings
from nautilus_runner.systemd_unit import UNIT, Unit, unit_text

service_app = typer.Typer(help="The runner as a service of systemd.", no_args_is_help=True)
_RUNNING = Path("/run/systemd/system")
AsUser = Annotated[
    bool, typer.Option("--user", help="A service of your own, not the machine's: no root needed.")
]


def add(app: typer.Typer) -> None:
    app.add_typer(service_app, name="service")


@service_app.command("show")
def show(config: Config, user: AsUser = False) -> None:
    """Print the unit that `install` would write."""
    print(unit_text(_unit(config, user)), end="")


@service_app.command("install")
def install(
    config: Config,
    user: AsUser = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Enable and start it too.")] = True,
) -> None:
    """Write the unit, then enable and start it where systemd runs."""
    unit = _unit(config, user)
    if not user and os.geteuid() != 0:
        raise ConfigurationError("only root installs a service of the machine: use sudo, or --user")
    load_settings(config)  # a mistake is told here, not in the journal
    path = _folder(user) / UNIT
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit_text(unit))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error}") from error
    print(f"{path} is written.")
    systemctl = ("systemctl", *(("--user",) if user else ()))
    if not start or not _RUNNING.exists() or shutil.which("systemctl") is None:
        print(
            f"To start it: {' '.join(systemctl)} daemon-reload && {' '.join(systemctl)} enable --now {UNIT}"
        )
        return
    for words in (("daemon-reload",), ("enable", "--now", UNIT)):
        done = subprocess.run([*systemctl, *words], capture_output=True, text=True)
        if done.returncode:
            raise RunnerError(f"systemctl {' '.join(words)}: {done.stderr.strip()}")
    print(f"{UNIT} runs: journalctl {'--user ' if user else ''}-u {UNIT}")


def _unit(config: Path, user: bool) -> Unit:
    has_docker = config.exists() and any(r.executor == "docker" for r in load_settings(config).runners)
    data_dir = load_settings(config).data_dir if config.exists() else config.absolute().parent
    return Unit(
        program=(sys.executable, "-m", "nautilus_runner"),
        config=str(config.absolute()),
        data_dir=str(data_dir),
        has_docker=has_docker,
        is_user=user,
    )


def _folder(user: bool) -> Path:
    if not user:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "systemd/user"
