"""compose.yaml, by whichever Compose is there: up, work, down, up again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def compose(lite_image: str, prefix: str, address: str) -> Iterator[Callable[..., None]]:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    if not plugin and not shutil.which("docker-compose"):
        pytest.skip("neither the Compose plugin nor docker-compose is installed")
    program = ["docker", "compose"] if plugin else ["docker-compose"]
    environment = os.environ | {
        "NAUTILUS_IMAGE": lite_image,
        "NAUTILUS_NAME": prefix,
        "NAUTILUS_PUBLISH": address,
        "NAUTILUS_EXTERNAL_URL": f"http://{address}",
    }

    def run(*arguments: str) -> None:
        argv = [*program, "-p", prefix, *arguments]
        done = subprocess.run(
            argv, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    yield run
    run("down", "--volumes")


def test_down_and_up_again_is_the_same_appliance(
    compose: Callable[..., None], prefix: str, address: str
) -> None:
    container = Container(prefix, address, [])
    compose("up", "--detach", "--no-build")
    wait_for("ready", container.is_ready)
    password = container.secret("root_password")
    assert f"{prefix}-data" in docker("volume", "ls", "-q").split()
    compose("down")
    compose("up", "--detach", "--no-build")
    wait_for("ready again", container.is_ready)
    assert container.secret("root_password") == password
    with container.api() as api:
        assert len(api.get("/api/v4/runners/all").json()) == 1
