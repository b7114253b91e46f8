"""What is killed comes back by itself, and a running experiment does not notice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.processes import family
from nautilus.testing.command_line import Appliance, CommandLine, fresh_home

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

SLOW = "for i in $(seq 1 {ticks}); do echo tick $i; sleep 0.2; done; echo done"


def wait_until(is_true: Callable[[], Any], within_s: float, what: str) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := is_true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


def submit(cli: CommandLine, ticks: int) -> str:
    made = cli.json("run", SLOW.replace("{ticks}", str(ticks)), "--project", "root/digits", "--detach")
    return str(made["experiments"][0]["id"])


def state_of(cli: CommandLine, experiment: str) -> str:
    done = cli.run("experiments", "show", experiment, "--json")
    return "" if done.returncode else str(json.loads(done.stdout)["state"])


def is_healthy(cli: CommandLine) -> bool:
    return cli.run("status", "--json").returncode == 0


SERVICES = ("runner", "forge", "management", "gateway", "postgres")


def test_each_killed_service_comes_back_and_the_running_experiment_is_not_lost(appliance: Appliance) -> None:
    cli = appliance.cli
    experiment = submit(cli, ticks=200)
    wait_until(lambda: state_of(cli, experiment) == "running", 60, "the experiment runs")
    for service in SERVICES:
        pid = cli.service(service)["pid"]
        os.kill(pid, signal.SIGKILL)

        def is_back(service: str = service, pid: int = pid) -> bool:
            return cli.service(service)["pid"] not in (pid, None) and is_healthy(cli)

        wait_until(is_back, 60, f"{service} is back")
    wait_until(lambda: state_of(cli, experiment) in ("succeeded", "failed", "canceled"), 120, "it ended")
    assert state_of(cli, experiment) == "succeeded", cli.logs()
    log = cli.run("experiments", "show", experiment, "--log").stdout
    ticks = [line.split()[1] for line in log.splitlines() if line.startswith("tick ")]
    assert ticks == [str(i) for i in range(1, 201)]


def test_cancel_ends_a_job_that_ignores_sigterm(appliance: Appliance) -> None:
    cli = appliance.cli
    command = "trap '' TERM; echo armed; while :; do sleep 0.2; done"
    made = cli.json("run", command, "--project", "root/digits", "--detach")
    experiment = str(made["experiments"][0]["id"])
    wait_until(
        lambda: "armed" in cli.run("experiments", "show", experiment, "--log").stdout, 60, "the job runs"
    )
    cli.json("experiments", "cancel", experiment)
    wait_until(lambda: state_of(cli, experiment) == "canceled", 90, "the experiment is canceled")


def test_a_ci_file_with_an_error_names_the_place(appliance: Appliance, tmp_path: Path) -> None:
    import gitlab

    client = gitlab.Gitlab(appliance.gitlab_url, private_token=appliance.token)
    project = client.projects.get("root/digits")
    commit = project.commits.create(
        {
            "branch": "broken",
            "start_branch": "main",
            "commit_message": "Break the CI file",
            "actions": [
                {
                    "action": "update",
                    "file_path": ".gitlab-ci.yml",
                    "content": "job:\n  script: [a]\n  scirpt: b\n",
                }
            ],
        }
    )
    pipeline = wait_until(lambda: project.pipelines.list(sha=commit.id, get_all=False), 60, "a pipeline")[0]
    assert pipeline.status == "failed"
    errors = project.pipelines.get(pipeline.id).yaml_errors
    assert "scirpt" in errors


@pytest.fixture
def other_home() -> Iterator[CommandLine]:
    cli = CommandLine(fresh_home())
    yield cli
    cli.run("down")
    subprocess.run(["rm", "-rf", str(cli.home)], check=False)


def test_a_second_appliance_on_the_same_folder_is_told_so(appliance: Appliance) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nautilus.cli", "boot"],
        env=appliance.cli.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 5
    assert "already runs" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_named(other_home: CommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = other_home.environment | {"NAUTILUS_PORT": str(taken.getsockname()[1])}
        done = subprocess.run(
            [sys.executable, "-m", "nautilus.cli", "up"], env=environment, capture_output=True, text=True
        )
    assert done.returncode == 3
    assert "NAUTILUS_PORT" in done.stderr


def test_data_of_another_postgresql_is_left_alone(other_home: CommandLine) -> None:
    cluster = other_home.home / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("9\n")
    done = other_home.run("up")
    assert done.returncode == 7
    assert "PostgreSQL 9" in done.stderr
    assert (cluster / "PG_VERSION").read_text() == "9\n"


@pytest.mark.drill
@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.3, 1.8, 2.4, 3.0])
def test_boot_heals_after_everything_was_killed(other_home: CommandLine, after_s: float) -> None:
    boot = subprocess.Popen([sys.executable, "-m", "nautilus.cli", "boot"], env=other_home.environment)
    time.sleep(after_s)
    boot.kill()
    boot.wait()
    for process in family(other_home.home):
        os.kill(process.pid, signal.SIGKILL)
    assert other_home.json("up")["ready"] is True
    assert other_home.json("status")["ready"] is True
