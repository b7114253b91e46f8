"""`nautilus demo` in a container: its jobs run in sibling containers, which get nothing of the appliance's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gitlab
import pytest

from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def appliance(lite_image: str, prefix: str, address: str) -> Iterator[Container]:
    options = [
        *("run", "-d", "--name", prefix, "--volume", f"{prefix}-data:/var/opt/nautilus"),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock"),
        *("--publish", f"{address}:80:80", "--publish", f"{address}:10080:10080"),
        *("--env", f"NAUTILUS_EXTERNAL_URL=http://{address}"),
    ]
    container = Container(prefix, address, [*options, lite_image])
    container.start()
    yield container
    docker("rm", "-f", prefix, check=False)


@pytest.fixture(scope="module")
def demo(appliance: Container) -> dict[str, Any]:
    return dict(json.loads(appliance.nautilus("demo", "--json").splitlines()[-1]))


def test_the_demo_runs_its_jobs_in_sibling_containers(demo: dict[str, Any], appliance: Container) -> None:
    assert demo["executor"] == "docker"
    assert demo["url"] == appliance.web_url
    assert {e["state"] for e in demo["experiments"]} == {"succeeded"}
    assert demo["best"]["metrics"]["accuracy"] >= 0.9


def test_what_it_says_to_type_can_be_typed_on_the_host(demo: dict[str, Any]) -> None:
    words = demo["password_command"].split()

    assert words[:2] == ["docker", "exec"]
    assert len(docker(*words[1:]).strip()) >= 20


def test_jobs_get_no_socket_and_no_volume_of_the_appliance(
    demo: dict[str, Any], appliance: Container
) -> None:
    command = "ls /var/run/docker.sock /var/opt/nautilus/secrets || sleep 8"
    told = appliance.nautilus("run", command, "--project", "root/digits", "--detach", "--json")

    own = docker("exec", appliance.name, "cat", "/var/opt/nautilus/runner/system_id").strip()

    def job() -> dict[str, Any] | None:
        filters = ("--filter", "label=org.nautilus.runner.role=job")
        filters += ("--filter", f"label=org.nautilus.runner.system-id={own}")
        for one in docker("ps", "-q", *filters).split():
            return dict(json.loads(docker("inspect", one))[0])
        return None

    container = wait_for(f"a job container of ours for {told}", job)
    sources = [mount.get("Name") or mount["Source"] for mount in container["Mounts"]]
    assert not any("docker.sock" in source or source.startswith(appliance.name) for source in sources)
    assert container["HostConfig"]["Privileged"] is False


def test_python_gitlab_works_from_the_host(demo: dict[str, Any], appliance: Container) -> None:
    token = json.loads(appliance.nautilus("token", "create", "--json"))["token"]
    client = gitlab.Gitlab(appliance.gitlab_url, private_token=token)
    client.auth()
    [project] = client.projects.list(get_all=True)
    assert project.http_url_to_repo == f"{appliance.gitlab_url}/root/digits.git"


def test_gitlabs_own_line_prints_the_registration_token(appliance: Container) -> None:
    line = "puts Gitlab::CurrentSettings.current_application_settings.runners_registration_token"
    told = docker("exec", appliance.name, "gitlab-rails", "runner", "-e", "production", line)
    assert told.strip() == appliance.nautilus("runner", "token").strip().splitlines()[-1]
