"""nautilus demo: the whole journey, from nothing to a compared sweep of real experiments."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.settings import ApplianceSettings
from nautilus.cli.appliance_commands import start
from nautilus.cli.client import Api, local_api
from nautilus.cli.experiments import follow_to_end
from nautilus.cli.output import CommandError, as_typed, emit, progress_console
from nautilus.cli.tables import experiments_table, wide_console

PROJECT = "digits"
COMMAND = "python train.py --hidden {hidden} --learning-rate {learning_rate} --epochs {epochs}"
SWEEP = {"hidden": [16, 64], "learning_rate": [0.001, 0.01]}
METRIC = "accuracy"
_PIPELINE_WITHIN_S = 300.0
T = TypeVar("T")


@dataclass
class Journey:
    """Prints what is being done, and how long each part took, on stderr."""

    def step(self, text: str, action: Callable[[], T]) -> T:
        console = progress_console()
        began = time.monotonic()
        with console.status(text):
            result = action()
        console.print(f"[green]✓[/] {text} [dim]({time.monotonic() - began:.1f} s)[/]")
        return result


def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
    ] = False,
) -> None:
    """Start Nautilus, push a project, see its CI pass, run a sweep on real data, and compare the results.

    Everything stays up afterwards: `./nautilus down` stops it.
    """
    settings, journey, console = ApplianceSettings.from_environment(), Journey(), progress_console()
    layout = settings.layout
    journey.step("starting the appliance", lambda: start(settings))
    plan = read_plan(layout.appliance_file)
    if plan is None:
        raise CommandError(
            f"{layout.appliance_file} is missing: run `nautilus down`, then `nautilus demo` again"
        )
    where = "in containers" if plan.executor == "docker" else "as processes"
    console.print(f"  jobs run {where}: {plan.executor_reason}")
    api = local_api()
    project = journey.step("creating the project from the template", lambda: ensure_project(api))
    sha = journey.step("cloning, committing and pushing with git", lambda: push_change(layout, plan, project))
    pipeline = journey.step(
        "waiting for the push's pipeline", lambda: wait_for_pipeline(layout, plan, project, sha)
    )
    console.print(f"  pipeline {pipeline['id']} passed: {pipeline['web_url']}", markup=False)
    found = run_sweep(api, project, console.print)
    best = best_of(found)
    body = _result(plan, found, best)
    emit(body, as_json, lambda: _show(layout, plan, found, best))
    if any(e["state"] != "succeeded" for e in found):
        raise CommandError(
            "not every experiment succeeded: the table and `nautilus experiments show ID --log` tell why", 12
        )


def ensure_project(api: Api) -> dict[str, Any]:
    """The demo's project: made at the first run, found at the next ones."""
    for project in api.get("/projects", search=PROJECT, per_page=100):
        if project["name"] == PROJECT:
            return dict(project)
    return dict(api.post("/projects", {"name": PROJECT, "template": "digits"}))


def push_change(layout: Layout, plan: Plan, project: dict[str, Any]) -> str:
    """Clones as a user would, commits a line to NOTES.md, pushes; returns the commit's SHA."""
    tree = layout.home / "demo" / PROJECT
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    url = f"{plan.gitlab_url}/{project['path_with_namespace']}.git"
    git = Git(layout)
    git.run("clone", "--quiet", url, str(tree))
    with (tree / "NOTES.md").open("a", encoding="utf-8") as notes:
        notes.write(f"- {datetime.now(UTC).isoformat(timespec='seconds')}: `nautilus demo` was here\n")
    git.run("-C", str(tree), "add", "NOTES.md")
    git.run("-C", str(tree), "commit", "--quiet", "-m", "Note a run of the demo")
    git.run("-C", str(tree), "push", "--quiet", "origin", f"HEAD:{project['default_branch'] or 'main'}")
    return git.run("-C", str(tree), "rev-parse", "HEAD").strip()


class Git:
    """The machine's git as the demo's user; the token goes by the environment, never by argv or onto the disk."""

    def __init__(self, layout: Layout) -> None:
        token = layout.secret("admin_token").read_text().strip()
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {_basic('root', token)}",
            **{f"GIT_{who}_NAME": "Administrator" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "root@localhost" for who in ("AUTHOR", "COMMITTER")},
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], env=self._environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandError(f"git {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout


def wait_for_pipeline(layout: Layout, plan: Plan, project: dict[str, Any], sha: str) -> dict[str, Any]:
    """The pipeline that the push of `sha` started, once it has passed. Raises CommandError when it did not."""
    from nautilus.gitlab.provisioning import Administration

    gitlab = Administration(plan.gitlab_url, layout.secret("admin_token").read_text().strip())
    deadline = time.monotonic() + _PIPELINE_WITHIN_S
    while time.monotonic() < deadline:
        pipeline = gitlab.pipeline_of(project["id"], sha)
        if pipeline and pipeline["status"] == "success":
            return pipeline
        if pipeline and pipeline["status"] in ("failed", "canceled", "skipped"):
            raise CommandError(
                f"the push's pipeline ended as {pipeline['status']}: {pipeline['web_url']}", 12
            )
        time.sleep(0.2)
    raise CommandError(
        f"the push's pipeline did not end within {_PIPELINE_WITHIN_S:.0f} s: see `nautilus logs runner`", 10
    )


def run_sweep(api: Api, project: dict[str, Any], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Submits one experiment per parameter set and follows them to the end."""
    body = {
        "project": project["id"],
        "name": "digits sweep",
        "command": COMMAND,
        "params": {"epochs": 12},
        "sweep": SWEEP,
        "seed": 7,
    }
    began = time.monotonic()
    submitted = api.post("/experiments", body)["experiments"]
    say(
        f"[green]✓[/] submitted a sweep of {len(submitted)} experiments on scikit-learn's digits (1,797 images of 8×8)"
    )
    told: set[Any] = set()

    def tell(found: list[dict[str, Any]]) -> None:
        for e in found:
            if e["id"] not in told and e["state"] in ("succeeded", "failed", "canceled"):
                told.add(e["id"])
                accuracy = e["metrics"].get(METRIC)
                result = f"{METRIC} {accuracy:.4f}" if accuracy is not None else str(e.get("reason") or "")
                values = ", ".join(f"{k}={v}" for k, v in e["params"].items())
                say(f"  experiment {e['id']} {e['state']} ({values}): {result}")

    found = follow_to_end(api, [e["id"] for e in submitted], tell)
    say(f"[green]✓[/] the sweep ended [dim]({time.monotonic() - began:.1f} s)[/]")
    return found


def best_of(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    done = [e for e in found if e["state"] == "succeeded" and METRIC in e["metrics"]]
    return max(done, key=lambda e: e["metrics"][METRIC], default=None)


def _result(plan: Plan, found: list[dict[str, Any]], best: dict[str, Any] | None) -> dict[str, Any]:
    kept = ("id", "params", "metrics", "state", "duration_s", "url")
    brief = [{key: e.get(key) for key in kept} for e in found]
    return {
        "url": plan.external_url,
        "user": "root",
        "password_command": as_typed("user password root"),
        "executor": plan.executor,
        "runner_token_command": as_typed("runner token"),
        "experiments": brief,
        "best": next((e for e in brief if best and e["id"] == best["id"]), None),
    }


def _show(layout: Layout, plan: Plan, found: list[dict[str, Any]], best: dict[str, Any] | None) -> None:
    console = wide_console()
    console.print()
    console.print(experiments_table(found, best["id"] if best else None, only=(METRIC, "f1", "test_loss")))
    console.print()
    lines = []
    if best:
        lines += [
            f"Best: experiment {best['id']}, {METRIC} {best['metrics'][METRIC]:.4f}, {best['url']}",
            f"  its artifacts: {best['artifact_uri']} ({best['url']}#artifacts)",
        ]
    lines += [
        f"Open {plan.external_url} and sign in as root; the password: {as_typed('user password root')}",
        f"Git and GitLab's API: {plan.gitlab_external_url}; a runner joins with: {as_typed('runner token')}",
        f"Data is in {layout.home}; {as_typed('status')} looks, {_end_as_typed()} stops it",
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _end_as_typed() -> str:
    """A container ends with what runs in it, a command of ours too: Docker ends it with its work done."""
    typed = as_typed("down").split()
    return f"docker stop {typed[2]}" if typed[0] == "docker" else " ".join(typed)


def _basic(user: str, password: str) -> str:
    import base64

    return base64.b64encode(f"{user}:{password}".encode()).decode()
