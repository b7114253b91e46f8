"""Machines on another network join the appliance in its image: our runner's image, and runners of others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gitlab
import pytest

from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, wait_for
from nautilus_gateway.testing.programs import free_ports

pytestmark = [pytest.mark.image, pytest.mark.docker, pytest.mark.timeout(900)]

MB = 1_000_000
SEED = "puts Gitlab::CurrentSettings.current_application_settings.runners_registration_token"
STOCK = os.environ.get("GITLAB_RUNNER_BIN") or shutil.which("gitlab-runner") or ""


@dataclass(frozen=True)
class Published(Container):
    """Published on the default bridge's address, which containers of every network reach."""

    web_port: int = 0
    gitlab_port: int = 0

    @property
    def web_url(self) -> str:
        return f"http://{self.address}:{self.web_port}"

    @property
    def gitlab_url(self) -> str:
        return f"http://{self.address}:{self.gitlab_port}"

    def client(self) -> gitlab.Gitlab:
        return gitlab.Gitlab(self.gitlab_url, private_token=self.secret("admin_token"))

    def runners(self) -> dict[str, dict[str, Any]]:
        return {r["description"]: r for r in json.loads(self.nautilus("runner", "list", "--json"))}


def published(image: str, name: str, *options: str) -> Published:
    [bridge] = json.loads(docker("network", "inspect", "bridge"))
    address = bridge["IPAM"]["Config"][0]["Gateway"]
    web, api = free_ports(2, address)
    argv = (
        *("run", "-d", "--name", name, "-v", "/var/run/docker.sock:/var/run/docker.sock"),
        *(
            "-v",
            f"{name}-data:/var/opt/nautilus",
            "-p",
            f"{address}:{web}:80",
            "-p",
            f"{address}:{api}:10080",
        ),
        *("-e", f"NAUTILUS_EXTERNAL_URL=http://{address}:{web}"),
        *("-e", f"NAUTILUS_GITLAB_EXTERNAL_URL=http://{address}:{api}", *options, image),
    )
    return Published(name, address, argv, web, api)


@pytest.fixture(scope="module")
def runner_image(build_image: Callable[[str], str]) -> str:
    return build_image("runner")


@pytest.fixture(scope="module")
def appliance(lite_image: str, prefix: str) -> Iterator[Published]:
    found = published(lite_image, f"{prefix}-app")
    found.start()
    yield found


@pytest.fixture(scope="module")
def far_network(prefix: str) -> str:
    docker("network", "create", f"{prefix}-far")
    return f"{prefix}-far"


def finished_job(appliance: Published, name: str, tag: str, script: str, image: str = "") -> Any:
    """The one job of a new project, once it has ended; without `image` it names none."""
    return end_of(waiting_job(appliance, name, tag, script, image))


def waiting_job(appliance: Published, name: str, tag: str, script: str, image: str = "") -> Any:
    """A new project with one job."""
    project = appliance.client().projects.create({"name": name, "initialize_with_readme": True})
    named = f"  image: {json.dumps(image)}\n" if image else ""
    ci = f"hello:\n  tags: [{tag}]\n{named}  script:\n    - {script}\n"
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": ci}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    return project


def end_of(project: Any) -> Any:
    """The project's one job, once it has ended."""

    def ended() -> Any:
        jobs = project.jobs.list(get_all=False)
        return project.jobs.get(jobs[0].id) if jobs and jobs[0].status in ("success", "failed") else None

    return wait_for(f"the job of {project.name} ends", ended, timeout_s=120)


def test_the_runner_image_is_small_and_has_nothing_of_the_server(runner_image: str) -> None:
    [info] = json.loads(docker("image", "inspect", runner_image))
    assert info["Size"] <= 250 * MB
    script = "import importlib.util as u; print([n for n in ('fastapi','sqlalchemy','nautilus') if u.find_spec(n)])"
    python = "/opt/nautilus/venv/bin/python"
    assert docker("run", "--rm", "--entrypoint", python, runner_image, "-c", script).strip() == "[]"
    told = docker(
        "run", "--rm", runner_image, "sh", "-c", "nautilus-runner version; git --version; git lfs version"
    )
    assert told.startswith("nautilus-runner ") and "git-lfs/" in told


def test_the_seeds_own_line_prints_the_registration_token(appliance: Published) -> None:
    token = appliance.nautilus("runner", "token").strip()
    line = ("gitlab-rails", "runner", "-e", "production", SEED)
    assert docker("exec", appliance.name, *line).strip() == token
    on_a_terminal = docker("exec", "-t", appliance.name, *line)
    assert on_a_terminal.replace("\r", "") == token + "\n"


def test_our_image_joins_by_the_printed_command_once(
    appliance: Published, runner_image: str, lite_image: str, far_network: str, prefix: str
) -> None:
    """The command is typed as it was printed, but for the network and the name, which tell this test's machine."""
    script = "cat /etc/debian_version; echo by $CI_RUNNER_DESCRIPTION"
    project = waiting_job(appliance, "far", "far", script, lite_image)
    added = ("runner", "add", "--name", f"{prefix} far", "--tags", "far", "--image", runner_image)
    [printed] = [line for line in appliance.nautilus(*added).splitlines() if " docker run " in line]
    command = printed.strip().replace("docker run ", f"docker run --network {far_network} ", 1)
    command = command.replace(f"nautilus-runner-{prefix}", f"{prefix}-runner")
    typed_at = datetime.now(UTC)
    _run_shell(command)
    job = end_of(project)
    assert job.status == "success", job.trace().decode()
    assert (datetime.fromisoformat(job.started_at) - typed_at).total_seconds() < 10
    assert f"by {prefix} far".encode() in job.trace()
    name = f"{prefix}-runner-far"
    before = time.time()
    docker("restart", name)

    def is_back() -> bool:
        status = docker("exec", name, "nautilus-runner", "status", "--json", check=False)
        return bool(status.strip()) and json.loads(status)["state"] == "ready"

    wait_for("the runner is back", is_back)
    assert time.time() - before < 30
    assert len(appliance.runners()) == 2, "no phantom runner"


def _run_shell(command: str) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_runner_that_we_did_not_write_joins_with_the_registration_token(
    appliance: Published, lite_image: str, far_network: str, prefix: str
) -> None:
    token = appliance.nautilus("runner", "token").strip()
    packages = "gitlab-python-runner==14.3.20 gitlab-emulator==0.11.1 'setuptools<81'"
    install = f"python3 -m venv /v && /v/bin/pip install -q {packages}"
    run = (
        f'/v/bin/gitlab-runner.py --register {appliance.gitlab_url} --regtoken "$TOKEN" --type shell --desc foreign '
        "--tag foreign && touch /registered && exec /v/bin/gitlab-runner.py --start gitlab-runner.yml"
    )
    name = f"{prefix}-foreign"
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    docker(
        *("run", "-d", "--name", name, "--network", far_network, "--workdir", "/tmp", "-e", f"TOKEN={token}"),
        *("-v", f"{bundle}:/ca.crt:ro", "-e", "PIP_CERT=/ca.crt", "--entrypoint", "sh", lite_image),
        *("-c", f"{install} || exit 77; {run}"),
    )

    def is_registered() -> bool:
        if json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 77:
            pytest.skip("gitlab-python-runner cannot be had from the package index")
        return "registered" in docker("exec", name, "ls", "/", check=False).split()

    wait_for("it registers", is_registered, timeout_s=240)
    job = finished_job(appliance, "foreign", "foreign", "echo made by $CI_PROJECT_NAME")
    assert job.status == "success", job.trace().decode()
    assert b"made by foreign" in job.trace()


def test_a_stock_gitlab_runner_is_the_bundled_one_when_asked(lite_image: str, prefix: str) -> None:
    if not STOCK:
        pytest.skip("no stock gitlab-runner: set GITLAB_RUNNER_BIN, or install it on the PATH")
    mount = ("-v", f"{Path(STOCK).resolve()}:/opt/gitlab-runner/gitlab-runner:ro")
    found = published(lite_image, f"{prefix}-stock", *mount, "-e", "NAUTILUS_BUNDLED_RUNNER=gitlab")
    found.start()
    wait_for("it was heard of", lambda: found.runners()["bundled"]["status"] == "online")
    assert list(found.runners()) == ["bundled"]
    assert found.runners()["bundled"]["version"] not in (None, "", "0.1.0")
    verify = ("/opt/gitlab-runner/gitlab-runner", "verify", "--config")
    listed = docker("exec", found.name, *verify, "/var/opt/nautilus/runner/gitlab-runner.toml")
    assert "glrt-" not in listed
    assert found.stop() <= 10


def test_without_its_program_the_start_says_what_to_do(lite_image: str, prefix: str) -> None:
    found = published(lite_image, f"{prefix}-without", "-e", "NAUTILUS_BUNDLED_RUNNER=gitlab")
    docker(*found.argv)
    state = wait_for(
        "it ends", lambda: found.inspect()["State"] if not found.inspect()["State"]["Running"] else None
    )
    assert state["ExitCode"] == 8
    shown = docker("logs", found.name) or _stderr_of(found.name)
    assert "mount its binary at /opt/gitlab-runner/gitlab-runner" in shown


def _stderr_of(name: str) -> str:
    return subprocess.run(["docker", "logs", name], capture_output=True, text=True, timeout=30).stderr


def test_off_is_not_waited_for_and_back_on_it_is_the_same_runner(lite_image: str, prefix: str) -> None:
    name = f"{prefix}-off"
    first = published(lite_image, name)
    first.start()
    row = first.runners()["bundled"]
    first.stop()
    off = published(lite_image, name, "-e", "NAUTILUS_BUNDLED_RUNNER=off")
    off.start()
    assert [(r["id"], r["paused"]) for r in off.runners().values()] == [(row["id"], True)]
    services = {s["name"]: s["state"] for s in json.loads(off.nautilus("status", "--json"))["services"]}
    assert services["runner"] == "off"
    off.stop()
    again = published(lite_image, name)
    again.start()
    assert [(r["id"], r["paused"]) for r in again.runners().values()] == [(row["id"], False)]
