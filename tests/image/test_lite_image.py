"""The same journey inside `docker run`, with the seed's volumes and ports: demo, stop, start, all still there."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import gitlab
import httpx
import pytest

from nautilus.testing.containers import docker

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


WEB, MANAGEMENT, GITLAB = free_port(), free_port(), free_port()


def start(name: str, image: str) -> None:
    docker(
        *("run", "-d", "--name", name),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--volume", f"{name}-gitlab:/var/opt/gitlab", "--volume", f"{name}-etc:/etc/gitlab"),
        *("--volume", f"{name}-data:/var/opt/mlreef"),
        *("--publish", f"127.0.0.1:{WEB}:80", "--publish", f"127.0.0.1:{MANAGEMENT}:8081"),
        *("--publish", f"127.0.0.1:{GITLAB}:10080"),
        *("--env", f"NAUTILUS_EXTERNAL_URL=http://localhost:{WEB}"),
        *("--env", f"NAUTILUS_GITLAB_EXTERNAL_URL=http://localhost:{GITLAB}"),
        image,
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://localhost:{WEB}/-/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready: {docker('logs', '--tail', '50', name)}\n{nautilus(name, 'status')}")


def nautilus(name: str, *arguments: str, timeout_s: float = 300) -> str:
    return docker("exec", name, "nautilus", *arguments, timeout_s=timeout_s, check=False)


def experiments(name: str) -> list[dict[str, Any]]:
    return list(json.loads(nautilus(name, "experiments", "list", "--json")))


@pytest.fixture(scope="module")
def demo(lite_image: str, container_name: str) -> dict[str, Any]:
    start(container_name, lite_image)
    told = docker("exec", container_name, "nautilus", "demo", "--json", timeout_s=300)
    return dict(json.loads(told.splitlines()[-1]))


def test_the_demo_runs_its_jobs_in_sibling_containers(demo: dict[str, Any]) -> None:
    assert demo["executor"] == "docker"
    assert demo["url"] == f"http://localhost:{WEB}"
    assert {e["state"] for e in demo["experiments"]} == {"succeeded"}
    assert demo["best"]["metrics"]["accuracy"] >= 0.9


def test_jobs_get_no_socket_and_no_volume_of_the_appliance(demo: dict[str, Any], container_name: str) -> None:
    command = "ls /var/run/docker.sock /var/opt/nautilus/secrets || sleep 8"
    made = json.loads(
        nautilus(container_name, "run", command, "--project", "root/digits", "--detach", "--json")
    )
    deadline = time.monotonic() + 60
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        ids = docker("ps", "-q", "--filter", "label=org.nautilus.runner.job").split()
        found = [json.loads(docker("inspect", one))[0] for one in ids]
        time.sleep(0.2)
    assert found, f"no job container was seen for {made}"
    for container in found:
        sources = [mount.get("Name") or mount["Source"] for mount in container["Mounts"]]
        assert not any("docker.sock" in source or source.startswith(container_name) for source in sources)
        assert container["HostConfig"]["Privileged"] is False


def test_git_and_python_gitlab_work_from_the_host(demo: dict[str, Any], container_name: str) -> None:
    token = json.loads(nautilus(container_name, "token", "create", "--json"))["token"]
    client = gitlab.Gitlab(f"http://localhost:{GITLAB}", private_token=token)
    client.auth()
    [project] = client.projects.list(get_all=True)
    assert project.http_url_to_repo == f"http://localhost:{GITLAB}/root/digits.git"


def test_stop_is_quick_and_clean_and_start_finds_everything(
    demo: dict[str, Any], container_name: str, lite_image: str
) -> None:
    before = experiments(container_name)
    runners = nautilus(container_name, "runner", "list", "--json")
    began = time.monotonic()
    docker("stop", container_name)
    assert time.monotonic() - began <= 10
    state = json.loads(docker("inspect", container_name))[0]["State"]
    assert state["ExitCode"] != 137, "killed: it did not stop by itself"
    docker("rm", container_name)
    start(container_name, lite_image)
    assert [e["id"] for e in experiments(container_name)] == [e["id"] for e in before]
    again = json.loads(nautilus(container_name, "runner", "list", "--json"))
    assert [r["id"] for r in again] == [r["id"] for r in json.loads(runners)]
    assert len(again) == 1
    log = docker("exec", container_name, "cat", "/var/opt/nautilus/log/postgres.log")
    assert "database system was not properly shut down" not in log


def test_the_data_lies_on_the_named_volume_and_on_no_other(demo: dict[str, Any], container_name: str) -> None:
    mounts = json.loads(docker("inspect", container_name))[0]["Mounts"]
    volumes = {mount["Name"] for mount in mounts if mount["Type"] == "volume"}
    assert volumes == {f"{container_name}-data", f"{container_name}-gitlab", f"{container_name}-etc"}
    folder = json.loads(docker("volume", "inspect", f"{container_name}-data"))[0]["Mountpoint"]
    assert (Path(folder) / "postgres" / "PG_VERSION").exists()


def test_the_image_says_that_it_is_healthy(demo: dict[str, Any], container_name: str) -> None:
    deadline = time.monotonic() + 60
    status = ""
    while status != "healthy" and time.monotonic() < deadline:
        status = json.loads(docker("inspect", container_name))[0]["State"]["Health"]["Status"]
        time.sleep(1)
    assert status == "healthy"
