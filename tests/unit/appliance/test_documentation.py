"""What is undocumented does not exist: commands, exit codes and settings stand in docs/reference."""

import inspect
import re

import pytest
import typer

from nautilus.appliance import errors, settings
from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.appliance.settings_check import BESIDES
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


def test_the_documented_settings_are_those_that_are_read() -> None:
    """Both ways: each setting has a row, and each row of the appliance's part is a setting."""
    part = SETTINGS.split("## Of the appliance")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| `(NAUTILUS_[A-Z_]+)` \|", part, re.MULTILINE))
    names = {setting.name for setting in settings.settings_by_field().values()}
    assert rows - {"NAUTILUS_HOME", "NAUTILUS_EDITION", "NAUTILUS_OMNIBUS_ROOT"} == names


def test_every_setting_of_a_row_has_a_default_and_a_meaning() -> None:
    for setting in settings.settings_by_field().values():
        assert setting.default and setting.meaning, setting.name


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    known = {setting.name for setting in settings.settings_by_field().values()} | BESIDES
    pages = [*(PROJECT_ROOT / "docs/how-to").glob("*.md"), PROJECT_ROOT / "docs/reference/settings.md"]
    assigned = {
        (name, page.name)
        for page in pages
        for name in re.findall(r"--env (NAUTILUS_[A-Z_]+)=", page.read_text())
    }
    unknown = {(n, p) for n, p in assigned if n not in known and not n.startswith("NAUTILUS_RUNNER_")}
    assert unknown == set()
