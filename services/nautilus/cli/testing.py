"""nautilus test: the project's own tests, in tiers, each with a time budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.cli.output import CommandError

_UNMARKED = "not docker and not image and not browser and not drill and not acceptance"


_ELSEWHERE = tuple(f"tests/contract/{part}" for part in ("gitlab_port", "forge_core", "forge_ci"))
"""What can be run against a server that somebody else started."""


_MOST_UNSTEADY = 3
"""Files of tests that may fail beside others and pass by themselves; with more, something else is wrong."""


@dataclass(frozen=True)
class Step:
    """One program of a tier; run in the checkout's root. `alone`: pytest's options when failed tests are run again."""

    name: str
    argv: tuple[str, ...]
    alone: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Tier:
    """Steps that belong together; `budget_s` is what they may take on two cores, all told."""

    name: str
    budget_s: float
    steps: tuple[Step, ...]


def _pytest(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "--durations=5", *arguments)


def _tests(name: str, *selection: str, beside: tuple[str, ...] = ()) -> Step:
    """The tests of `selection`; `beside`: how several run at a time."""
    return Step(name, _pytest(*beside, *selection), alone=selection)


TIERS = {
    "fast": Tier(
        "fast",
        14 * 60,
        (
            Step("lint", ("-m", "ruff", "check", ".")),
            Step("format", ("-m", "ruff", "format", "--check", ".")),
            Step("types", ("-m", "mypy")),
            Step("import contracts", ("-c", "from importlinter.cli import lint_imports_command as c; c()")),
            _tests(
                "unit, contract, integration",
                *("-m", _UNMARKED, "tests/unit", "tests/contract", "tests/integration"),
                beside=("-n", "3"),
            ),
            _tests(
                "the demo in a fresh home",
                *("-m", "acceptance and not drill and not docker", "tests/acceptance"),
            ),
        ),
    ),
    "image": Tier(
        "image",
        8 * 60,
        (_tests("docker", "-m", "docker or image", "tests", beside=("-n", "2", "--dist", "loadfile")),),
    ),
    "browser": Tier("browser", 3 * 60, (_tests("browser", "-m", "browser", "tests/browser"),)),
    "drills": Tier("drills", 15 * 60, (_tests("drills", "-m", "drill", "tests"),)),
}


def run_tests(
    context: typer.Context,
    image: Annotated[
        bool, typer.Option("--image", help="What needs Docker: the executor, the lite image.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser", help="Walk the pages in Chromium.")] = False,
    drills: Annotated[bool, typer.Option("--drills", help="Kill and break things; minutes.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All tiers.")] = False,
    gitlab: Annotated[
        str | None,
        typer.Option("--gitlab", metavar="URL", help="Run the contract tests against this server."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help="Administrator's token for --gitlab; NAUTILUS_CONTRACT_TOKEN instead keeps it out of argv.",
        ),
    ] = None,
) -> None:
    """Run the tests. Without options: the fast tier. Paths or pytest options after `--` run just those."""
    root = PROJECT_ROOT
    if context.args:
        _run_step(root, Step("pytest", ("-m", "pytest", *context.args)))
        return
    if gitlab:
        os.environ["NAUTILUS_CONTRACT_URL"] = gitlab
        if token:
            os.environ["NAUTILUS_CONTRACT_TOKEN"] = token
        _run_step(root, Step("contract", _pytest("-m", _UNMARKED, *_ELSEWHERE)))
        return
    asked = [name for name, wanted in (("image", image), ("browser", browser), ("drills", drills)) if wanted]
    for name in list(TIERS) if everything else asked or ["fast"]:
        run_tier(root, TIERS[name])


def run_bench(context: typer.Context) -> None:
    """Measure (what `bench/run` calls; `bench/run --help` lists the parts)."""
    root = PROJECT_ROOT
    folders = [str(root), *(str(root / part) for part in ("services", "gateway", "runner"))]
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run([sys.executable, "-m", "bench.main", *context.args], cwd=root, env=environment)
    raise SystemExit(done.returncode)


def run_tier(root: Path, tier: Tier) -> None:
    """Runs every step; raises CommandError at the first that fails. A machine may be slow: over the budget is said.

    A test that fails beside others is run once more by itself. One that then passes is unsteady: it is named, for
    somebody to mend, and fails the tier only where more than `_MOST_UNSTEADY` files have tests that failed.
    """
    began = time.monotonic()
    unsteady = [test for step in tier.steps for test in _run_step(root, step)]
    took_s = time.monotonic() - began
    print(f"tier {tier.name}: {took_s:.0f} s of {tier.budget_s:.0f} s", flush=True)
    if took_s > tier.budget_s:
        print(
            f"tier {tier.name}: over its budget; the slowest tests stand above", file=sys.stderr, flush=True
        )
    for test in unsteady:
        print(f"unsteady: {test} failed beside others and passed by itself", file=sys.stderr, flush=True)


def _run_step(root: Path, step: Step) -> list[str]:
    """The tests that were unsteady. Raises CommandError."""
    print(f"── {step.name}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nautilus-tests-") as folder:
        memory = () if step.alone is None else ("-o", f"cache_dir={folder}")
        code = _run(root, (*step.argv, *memory))
        failed = _failed_tests(Path(folder)) if code == _TESTS_FAILED and step.alone is not None else []
        if 0 < len({test.partition("::")[0] for test in failed}) <= _MOST_UNSTEADY:
            print(f"── {step.name}: what failed, by itself", flush=True)
            code = _run(root, ("-m", "pytest", "-q", "--last-failed", *(step.alone or ()), *memory))
    print(f"── {step.name}: {time.monotonic() - began:.0f} s", flush=True)
    if code != 0:
        raise CommandError(f"{step.name} failed (exit code {code}); what it printed stands above", 12)
    return failed


_TESTS_FAILED = 1
"""pytest's exit status where all tests ran; others say that it was interrupted, or could not read a test."""


def _failed_tests(cache: Path) -> list[str]:
    """What pytest noted in its (new) cache."""
    noted = cache / "v/cache/lastfailed"
    return sorted(json.loads(noted.read_text())) if noted.exists() else []


def _run(root: Path, argv: tuple[str, ...]) -> int:
    """The exit status of a Python program."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("NAUTILUS_HOME", "NAUTILUS_URL", "NAUTILUS_TOKEN")
    }
    folders = [str(root / part) for part in ("services", "gateway", "runner")]
    environment |= {"PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run([sys.executable, *argv], cwd=root, env=environment).returncode
