"""GitLab's own gitlab-runner, registered as MLReef's manual says and with `glrt-`, runs jobs of the appliance."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gitlab
import pytest

from nautilus.testing.command_line import Appliance

pytestmark = [pytest.mark.acceptance, pytest.mark.gitlab_runner, pytest.mark.timeout(600)]

PROGRAM = os.environ.get("GITLAB_RUNNER_BIN") or shutil.which("gitlab-runner") or ""


@pytest.fixture
def program() -> str:
    if not PROGRAM or not os.access(PROGRAM, os.X_OK):
        pytest.skip("no stock gitlab-runner: set GITLAB_RUNNER_BIN, or install it on the PATH")
    return PROGRAM


def run(program: str, *arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home)} | environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def serving(program: str, config: Path) -> Iterator[None]:
    runner = subprocess.Popen(
        [program, "run", "--config", str(config), "--working-directory", str(config.parent)],
        cwd=config.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        runner.send_signal(signal.SIGTERM)
        try:
            runner.wait(30)
        except subprocess.TimeoutExpired:
            runner.kill()
            runner.wait()


def finished_job(appliance: Appliance, name: str, tag: str) -> Any:
    """The one job of a new project, once it has ended; `tag` names the runner."""
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)
    project = client.projects.create({"name": name, "initialize_with_readme": True})
    ci = (
        f"hello:\n  tags: [{tag}]\n  script:\n    - test -e README.md\n    - echo made by $CI_PROJECT_NAME\n"
        "    - echo 7 > answer.txt\n  artifacts:\n    paths: [answer.txt]\n"
    )
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": ci}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        jobs = project.jobs.list(get_all=False)
        if jobs and jobs[0].status in ("success", "failed"):
            return project.jobs.get(jobs[0].id)
        time.sleep(0.3)
    raise AssertionError(f"the job did not end\n{appliance.cli.logs()}")


def test_registered_by_the_registration_token_as_the_seed_does(
    appliance: Appliance, program: str, tmp_path: Path
) -> None:
    token = appliance.cli.json("runner", "token")["token"]
    config = tmp_path / "config.toml"
    done = run(
        *(program, "register", "--config", str(config), "--non-interactive"),
        *(f"--url={appliance.gitlab_url}", "--registration-token", token, "--executor", "shell"),
        *("--description", "Packaged Runner", "--tag-list", "stock-seed", "--run-untagged=false"),
        *("--locked=false", "--access-level=not_protected"),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with serving(program, config):
        job = finished_job(appliance, "stock-seed", "stock-seed")
    assert job.status == "success", job.trace().decode()
    assert b"made by stock-seed" in job.trace()
    assert job.artifact("answer.txt") == b"7\n"


def test_registered_by_the_printed_command(appliance: Appliance, program: str, tmp_path: Path) -> None:
    made = appliance.cli.json("runner", "add", "--name", "stock glrt", "--tags", "stock-glrt")
    words = shlex.split(made["commands"]["gitlab_runner"])
    variable, _, token = words.pop(0).partition("=")
    config = tmp_path / "config.toml"
    assert words[:2] == ["gitlab-runner", "register"]
    done = run(program, *words[1:], "--config", str(config), home=tmp_path, **{variable: token})
    assert done.returncode == 0, done.stderr
    config.write_text(config.read_text().replace('executor = "docker"', 'executor = "shell"'))
    with serving(program, config):
        job = finished_job(appliance, "stock-glrt", "stock-glrt")
        shown = {r["description"]: r for r in appliance.cli.json("runner", "list")}
    assert job.status == "success", job.trace().decode()
    assert shown["stock glrt"]["status"] == "online"
    assert run(program, "verify", "--config", str(config), home=tmp_path).returncode == 0
    assert appliance.cli.run("runner", "remove", "stock glrt").returncode == 0
    assert run(program, "verify", "--config", str(config), home=tmp_path).returncode != 0
