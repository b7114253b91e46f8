"""What is undocumented does not exist: commands, exit codes and settings stand in docs/reference."""

import inspect
import re

import pytest
import typer

from nautilus.appliance import errors, settings
from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.cli.main import app
from nautilus.cli.output import EXIT_CODES

CLI = (PROJECT_ROOT / "docs/reference/cli.md").read_text()
SETTINGS = (PROJECT_ROOT / "docs/reference/settings.md").read_text()


def visible_commands() -> list[str]:
    command = typer.main.get_command(app)
    return [name for name, sub in command.commands.items() if not sub.hidden]  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", visible_commands())
def test_every_command_is_in_the_reference(command: str) -> None:
    assert re.search(rf"^\| `{command}\b", CLI, re.MULTILINE), f"{command} is not in docs/reference/cli.md"


def test_the_exit_codes_are_the_documented_ones() -> None:
    documented = {int(code): text for code, text in re.findall(r"^\| (\d+) \| (.+) \|$", CLI, re.MULTILINE)}
    assert documented == EXIT_CODES


def test_every_error_has_a_documented_exit_code() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.ApplianceError)
    ]
    assert {c.exit_code for c in classes} <= set(EXIT_CODES)


def test_every_setting_is_in_the_reference() -> None:
    read = set(re.findall(r'"(NAUTILUS_[A-Z_]+)"', inspect.getsource(settings.ApplianceSettings)))
    assert read - {"NAUTILUS_IN_IMAGE"} <= set(re.findall(r"`(NAUTILUS_[A-Z_]+)`", SETTINGS))
