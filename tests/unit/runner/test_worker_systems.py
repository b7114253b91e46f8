"""docs/reference/worker-systems.md promises nothing that is not there: commands, options, variables, keys, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nautilus.cli.main import app as appliance
from nautilus_runner import environment, other_workers
from nautilus_runner.cli import app as runner
from nautilus_runner.settings import RunnerSettings, Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/worker-systems.md").read_text()
QUOTED = re.findall(r"`([^`]+)`", PAGE)
PROGRAMS = {
    "nautilus-runner": typer.main.get_command(runner),
    "nautilus": typer.main.get_command(appliance),
}
COMMANDS = sorted({text for text in QUOTED if text.split()[0] in PROGRAMS and " " in text})
VARIABLES = sorted({text for text in QUOTED if re.fullmatch(r"NAUTILUS_[A-Z_]+", text)})


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_there_with_its_options(line: str) -> None:
    program, *words = shlex.split(line)
    command: Any = PROGRAMS[program]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{program} has no command {words[0]}"
        command = command.commands[words.pop(0)]
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert [word for word in words if word.startswith("--") and word not in options] == []


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_is_minded_and_documented_elsewhere(name: str) -> None:
    keys = environment.variables(Settings, RunnerSettings)
    sources = (p.read_text() for p in (ROOT / "runner/nautilus_runner").rglob("*.py"))
    assert name in keys or any(name in text for text in sources)
    pages = [p for p in (ROOT / "docs").rglob("*.md") if p.name != "worker-systems.md"]
    assert name in keys or any(name in p.read_text() for p in pages)


def test_the_variables_of_other_workers_are_all_there() -> None:
    assert [name for name in other_workers.KNOWN if f"`{name}`" not in PAGE] == [
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY"
    ]


def test_each_key_of_the_configuration_exists() -> None:
    keys = {path[-1] for path in environment.variables(Settings, RunnerSettings).values()}
    named = set(re.findall(r"`([a-z_]+_[a-z_]+)`", PAGE))
    kinds = {"timeout_s", "limit"}
    assert named - keys - kinds == set()


@pytest.mark.parametrize("path", sorted({t for t in QUOTED if t.startswith(("examples/", "environments/"))}))
def test_each_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_each_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs/reference" / file).read_text()
        heads = {
            re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
            for h in re.findall(r"^#+ (.+)$", text, re.M)
        }
        assert not anchor or anchor in heads, target
