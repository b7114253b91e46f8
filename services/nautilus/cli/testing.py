"""nautilus test: the project's own tests, in tiers, each with a time budget."""

from __future__ import annotations

import os
import subprocess
import sys
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


@dataclass(frozen=True)
class Step:
    """One program of a tier; run in the checkout's root."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Tier:
    """Steps that belong together; `budget_s` is what they may take on two cores, all told."""

    name: str
    budget_s: float
    steps: tuple[Step, ...]


def _pytest(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "--durations=5", *arguments)


TIERS = {
    "fast": Tier(
        "fast",
        14 * 60,
        (
            Step("lint", ("-m", "ruff", "check", ".")),
            Step("format", ("-m", "ruff", "format", "--check", ".")),
            Step("types", ("-m", "mypy")),
            Step("import contracts", ("-c", "from importlinter.cli import lint_imports_command as c; c()")),
            Step(
                "unit, contract, integration",
                _pytest("-n", "3", "-m", _UNMARKED, "tests/unit", "tests/contract", "tests/integration"),
            ),
            Step(
                "the demo in a fresh home",
                _pytest("-m", "acceptance and not drill and not docker", "tests/acceptance"),
            ),
        ),
    ),
    "image": Tier(
        "image",
        8 * 60,
        (Step("docker", _pytest("-n", "2", "--dist", "loadfile", "-m", "docker or image", "tests")),),
    ),
    "browser": Tier("browser", 3 * 60, (Step("browser", _pytest("-m", "browser", "tests/browser")),)),
    "drills": Tier("drills", 15 * 60, (Step("drills", _pytest("-m", "drill", "tests")),)),
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
    """Runs every step; raises CommandError at the first that fails. A machine may be slow: over the budget is said."""
    began = time.monotonic()
    for step in tier.steps:
        _run_step(root, step)
    took_s = time.monotonic() - began
    print(f"tier {tier.name}: {took_s:.0f} s of {tier.budget_s:.0f} s", flush=True)
    if took_s > tier.budget_s:
        print(
            f"tier {tier.name}: over its budget; the slowest tests stand above", file=sys.stderr, flush=True
        )


def _run_step(root: Path, step: Step) -> None:
    print(f"── {step.name}", flush=True)
    began = time.monotonic()
    environment = {
        k: v for k, v in os.environ.items() if k not in ("NAUTILUS_HOME", "NAUTILUS_URL", "NAUTILUS_TOKEN")
    }
    folders = [str(root / part) for part in ("services", "gateway", "runner")]
    environment |= {"PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run([sys.executable, *step.argv], cwd=root, env=environment)
    print(f"── {step.name}: {time.monotonic() - began:.0f} s", flush=True)
    if done.returncode != 0:
        raise CommandError(
            f"{step.name} failed (exit code {done.returncode}); what it printed stands above", 12
        )
