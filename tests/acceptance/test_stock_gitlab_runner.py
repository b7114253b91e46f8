"""GitLab's own gitlab-runner, registered as MLReef's manual says and with `glrt-`, runs jobs of the appliance."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gitlab
import pytest

from nautilus.testing.command_line import Appliance
from nautilus.testing.runner_worlds import runner_token, stock_world

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


CANCELED_AND_RETRIED = """
default: {tags: [stock-ends]}
stages: [canceled, retried]
endless:
  stage: canceled
  script: [echo it runs, sleep NAP]
  after_script: [echo it is over]
  allow_failure: true
unsteady:
  stage: retried
  needs: []
  retry: {max: 1, when: script_failure}
  script: ["test -e MARK || { touch MARK; exit 3; }", echo steady now]
"""


def has_process(*words: str) -> bool:
    """Whether something on this machine was started with these words."""
    wanted = "\0".join(words).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().rstrip(b"\0") == wanted:
                return True
    return False


def test_its_jobs_are_canceled_and_tried_again(appliance: Appliance, program: str, tmp_path: Path) -> None:
    """Canceled by a person while it runs; tried again by `retry`, then by a person."""
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)
    project = client.projects.create({"name": f"stock-ends-{tmp_path.name}", "initialize_with_readme": True})
    nap = f"60{int(time.time()) % 1000:03}"
    ci = CANCELED_AND_RETRIED.replace("NAP", nap).replace("MARK", str(tmp_path / "mark"))
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": ci}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})

    def jobs(name: str, status: str) -> list[Any]:
        found = project.jobs.list(get_all=True, retry_transient_errors=True, include_retried=True)
        return [job for job in found if (job.name, job.status) == (name, status)]

    world = stock_world(
        program, appliance.gitlab_url, runner_token(client, "stock-ends"), "stock-ends", tmp_path, {}
    )
    try:
        wait_until(lambda: has_process("sleep", nap), "the endless job runs")
        [endless] = jobs("endless", "running")
        project.jobs.get(endless.id).cancel()
        wait_until(lambda: jobs("endless", "canceled"), "it is canceled")
        wait_until(lambda: not has_process("sleep", nap), "its script is ended")
        wait_until(lambda: jobs("unsteady", "success"), "the other job is tried again")
        [first] = jobs("unsteady", "failed")
        assert first.failure_reason == "script_failure"
        project.jobs.get(endless.id).retry()
        wait_until(lambda: has_process("sleep", nap), "it runs again")
        [again] = jobs("endless", "running")
        assert again.id != endless.id
        project.jobs.get(again.id).cancel()
        wait_until(lambda: not has_process("sleep", nap), "its script is ended again")
    finally:
        world.stop()
        project.delete()


def wait_until(is_true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 90
    while not is_true():
        assert time.monotonic() < deadline, f"not within 90 s: {what}"
        time.sleep(0.2)
