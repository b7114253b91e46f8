"""Each call of our programs that a page shows is one that they take; each option has its place in the reference."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.cli.main import app as nautilus
from nautilus.testing.documented_calls import Call, calls_of, complaint
from nautilus_runner.cli import app as runner
from nautilus_runner.environment import PREFIX, variables
from nautilus_runner.settings import RunnerSettings, Settings

PAGES = [
    PROJECT_ROOT / "README.md",
    *sorted(page for folder in ("docs", "examples") for page in (PROJECT_ROOT / folder).rglob("*.md")),
]
PROGRAMS: dict[str, Any] = {
    "nautilus": typer.main.get_command(nautilus),
    "nautilus-runner": typer.main.get_command(runner),
}
OF_REGISTERING = {"URL", "TOKEN", "NAME", "EXECUTOR", "TAGS", "IMAGE", "GPUS", "CONCURRENT"}
BESIDES = {"CONFIG", "DEBUG", *OF_REGISTERING}
"""Variables of the runner's programs that are no settings of its file."""


def calls(program: str) -> list[str]:
    found = (call for page in PAGES for call in calls_of(page.read_text()) if call.program == program)
    return [" ".join(call.words) for call in found if call.words]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_no_page_shows_a_call_that_the_program_refuses(page: Any) -> None:
    said = [(call.line, complaint(call, PROGRAMS)) for call in calls_of(page.read_text())]
    assert [(line, text) for line, text in said if text] == []


def test_calls_are_found_wherever_readers_copy_them() -> None:
    page = (
        "Type `nautilus logs\nregistry` or `docker exec -it NAME nautilus status --json \\| jq`, not `nautilus`.\n"
        "```console\n$ X=$(./nautilus token create --name a | cut -c2) && sudo /opt/bin/nautilus-runner list\n"
        "nautilus is a word of the output\n"
        "  | A=b ~/x/nautilus-runner register --name 'GPU box' \\\n      --limit 1 > log\n```\n"
    )
    assert sorted(call.words for call in calls_of(page)) == [
        (),
        ("list",),
        ("logs", "registry"),
        ("register", "--name", "GPU box", "--limit", "1"),
        ("status", "--json"),
        ("token", "create", "--name", "a"),
    ]
    assert len(calls("nautilus")) > 100 and len(calls("nautilus-runner")) > 50


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (Call(1, "nautilus", ("runner", "ad")), "runner has no command ad"),
        (Call(1, "nautilus", ("logs", "forge", "--folow")), "logs has no option --folow"),
        (
            Call(1, "nautilus-runner", ("register", "--limit", "1", "--lmit=1")),
            "register has no option --lmit",
        ),
        (Call(1, "nautilus", ("run", "python x --epochs 3", "--project", "p", "--", "--any")), ""),
        (Call(1, "nautilus", ("test", "-q", "tests/unit")), ""),
    ],
)
def test_what_a_program_does_not_take_is_named(call: Call, said: str) -> None:
    assert complaint(call, PROGRAMS) == said


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, sub in command.commands.items():
        if hasattr(sub, "commands"):
            yield from leaves(sub, (*path, name))
        elif not sub.hidden:
            yield (*path, name), sub


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*leaf, id=" ".join(leaf[0])) for leaf in leaves(PROGRAMS["nautilus"])]
)
def test_every_option_stands_in_the_reference_of_the_command_line(
    path: tuple[str, ...], command: Any
) -> None:
    page = (PROJECT_ROOT / "docs/reference/cli.md").read_text().replace("\\|", "|")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    mine = [row for row in rows if all(re.search(rf"\b{word}\b", row.split("` |")[0]) for word in path)]
    assert mine, "no row"
    options = [[*p.opts, *p.secondary_opts] for p in command.params if p.param_type_name == "option"]
    missing = [
        names
        for names in options
        if not any(re.search(rf"(?<![\w-]){name}(?![\w-])", row) for row in mine for name in names)
    ]
    assert [names for names in missing if not {"--json", "--help"} & {*names}] == []


def test_each_program_that_the_package_installs_is_there_and_documented() -> None:
    scripts = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {*scripts} == {*PROGRAMS}
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_no_page_names_a_variable_of_the_runner_that_it_does_not_read() -> None:
    known = {*variables(Settings, RunnerSettings), *(PREFIX + name for name in BESIDES)}
    named = {
        (name, page.name)
        for page in PAGES
        for name in re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b(?!…)", page.read_text())
    }
    assert {(name, page) for name, page in named if name not in known} == set()
