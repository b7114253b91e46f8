"""nautilus config: the appliance's settings: what they are, where they come from, whether they can be used."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from nautilus.appliance import folders
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import (
    ApplianceSettings,
    Given,
    Setting,
    given_values,
    home_folder,
    settings_by_field,
)
from nautilus.cli.output import CommandError, emit

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
app = typer.Typer(no_args_is_help=True)

_USAGE = 2


@dataclass(frozen=True)
class Shown:
    """One setting. `value` is its text, None where it is not set; `source`: environment, default or a file's path."""

    name: str
    value: str | None
    source: str
    default: str
    meaning: str


@app.callback()
def _group() -> None:
    """Settings: show, check, change; the own CA's certificate."""


@app.command("show")
def show(as_json: Json = False) -> None:
    """Show each setting: its value, where it comes from, its default; and the addresses that follow."""
    home = home_folder(os.environ)
    given, _ = given_values(os.environ, home)
    rows = [_shown(setting, given.get(setting.name)) for setting in settings_by_field().values()]
    rows.insert(
        0, Shown("NAUTILUS_HOME", str(home), _home_source(), "./.nautilus (image: /var/opt/nautilus)", "data")
    )
    addresses = _addresses()
    body = {"settings": [asdict(row) for row in rows], "addresses": addresses}

    def table() -> None:
        for row in rows:
            value = f"{row.value}  ({row.source})" if row.value is not None else f"not set: {row.default}"
            print(f"{row.name:<31} {value}")
        print()
        for name, address in addresses.items():
            print(f"{name:<31} {address}")

    emit(body, as_json, table)


@app.command("check")
def check(as_json: Json = False) -> None:
    """Validate all settings, the certificates that they name, and how they go together; starts nothing."""
    from nautilus.appliance.settings_check import check_settings

    report = check_settings(os.environ)

    def lines() -> None:
        for warning in report.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        for problem in report.problems:
            print(f"error: {problem}", file=sys.stderr)
        if not report.problems:
            print("The settings can be used.")

    emit({"usable": not report.problems, **asdict(report)}, as_json, lines)
    if report.problems:
        raise SystemExit(_USAGE)


@app.command("set")
def set_value(
    name: Annotated[str, typer.Argument(help="A setting, such as NAUTILUS_EXTERNAL_URL or external_url.")],
    value: Annotated[str, typer.Argument(help="Its value; '' removes it.")],
    as_json: Json = False,
) -> None:
    """Keep a setting in the data folder (etc/nautilus.toml), for the next start. The environment wins over it."""
    from nautilus.appliance.settings_file import change_settings_file

    setting = _find(name)
    text = value.strip()
    if text:
        _refuse_unusable(setting, text)
    settings = ApplianceSettings(home_folder(os.environ))
    path = settings.layout.settings_file
    try:
        change_settings_file(path, setting.name, text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", 4) from error
    _warn_after(setting)
    body = {"name": setting.name, "value": text or None, "file": str(path), "restart_needed": True}
    what = f"{setting.name} is {text!r}" if text else f"{setting.name} is removed"
    emit(body, as_json, lambda: print(f"{what} in {path}. {_restart_hint()}"))


@app.command("ca")
def ca() -> None:
    """Print the own CA's certificate (PEM), for clients to trust. Exit code 6 where TLS is not by an own CA."""
    path = ApplianceSettings(home_folder(os.environ)).layout.ca_certificate
    try:
        print(path.read_text(), end="")
    except FileNotFoundError:
        raise CommandError(
            "there is no own CA: `nautilus config set NAUTILUS_TLS own-ca` and a restart make one", 6
        ) from None


def _find(name: str) -> Setting:
    wanted = name.upper() if name.upper().startswith("NAUTILUS_") else f"NAUTILUS_{name.upper()}"
    by_name = {setting.name: setting for setting in settings_by_field().values()}
    if wanted in by_name:
        return by_name[wanted]
    import difflib

    near = difflib.get_close_matches(wanted, by_name, n=1)
    hint = f"did you mean {near[0]}?" if near else "`nautilus config show` lists them"
    raise CommandError(f"{name!r} is no setting that can be stored: {hint}", _USAGE)


def _refuse_unusable(setting: Setting, text: str) -> None:
    try:
        setting.parse(text)
    except ValueError as error:
        raise CommandError(f"{setting.name}={text!r}: {error}", _USAGE) from None


def _warn_after(setting: Setting) -> None:
    """What is now wrong with the whole (a certificate without its key yet) does not undo the change."""
    from nautilus.appliance.settings_check import check_settings

    if os.environ.get(setting.name, "").strip():
        print(f"warning: {setting.name} is set in the environment too, and that wins", file=sys.stderr)
    for problem in check_settings(os.environ).problems:
        print(f"warning: it would not start like this: {problem}", file=sys.stderr)


def _shown(setting: Setting, found: Given | None) -> Shown:
    if found is None:
        return Shown(setting.name, None, "default", setting.default, setting.meaning)
    return Shown(setting.name, found.text, found.source, setting.default, setting.meaning)


def _addresses() -> dict[str, str]:
    """What follows from the settings; nothing where they cannot be used."""
    from nautilus.appliance.settings_check import plan_without_docker

    settings, problems = ApplianceSettings.checked()
    if problems:
        return {}
    plan = plan_without_docker(settings)
    host = f"[{plan.ssh_host}]" if ":" in plan.ssh_host else plan.ssh_host
    return {
        "pages, API, tracking": plan.external_url,
        "clones, runners": plan.gitlab_external_url,
        "container registry": plan.registry_external_url,
        "SSH": f"ssh://git@{host}:{plan.ssh_port}",
        "listens": ", ".join(f"{name} {port}" for name, port in _listening(settings, plan).items()),
        "TLS": plan.tls,
    }


def _listening(settings: ApplianceSettings, plan: Plan) -> dict[str, int]:
    """The ports; of an appliance that runs its own SSH port, which looks taken to a plan made beside it."""
    running = read_plan(settings.layout.appliance_file) if folders.is_locked(settings.layout) else None
    return plan.ports | ({"ssh": running.ports["ssh"]} if running and "ssh" in running.ports else {})


def _home_source() -> str:
    return "environment" if os.environ.get("NAUTILUS_HOME") else "default"


def _restart_hint() -> str:
    if os.environ.get("NAUTILUS_IN_IMAGE") == "1":
        return "Restart the container to use it (`docker restart`)."
    return "Restart to use it (`nautilus down`, `nautilus up`)."
