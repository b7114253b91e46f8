"""A protocol server, a git host and runners: one in this process, one as the real service that can be killed."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nautilus_runner.files.removal import remove_tree
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.running import RunnerProcess, RunningAgent
from nautilus_runner.testing.server import ProtocolServer

if TYPE_CHECKING:
    import docker


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    folder = tmp_path / "repositories"
    folder.mkdir()
    return folder


@pytest.fixture
async def server(repositories: Path) -> AsyncIterator[ProtocolServer]:
    async with ProtocolServer(repositories) as running:
        yield running


@pytest.fixture
def repository(repositories: Path) -> Repository:
    return Repository(repositories, "group/project")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Where a job's user can reach it, as a real installation's (pytest closes its own folders to others)."""
    folder = Path(tempfile.mkdtemp(prefix="nautilus-runner-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    remove_tree(folder)


@pytest.fixture
async def runner(data_dir: Path) -> AsyncIterator[RunningAgent]:
    running = RunningAgent(data_dir)
    yield running
    await running.stop()
    remove_networks(data_dir)


def remove_networks(data_dir: Path) -> None:
    """Those of a runner that never starts again; a daemon has addresses for some thirty only."""
    if "docker" not in sys.modules or not (data_dir / "system_id").exists():
        return
    import docker

    label = f"org.nautilus.runner.system-id={(data_dir / 'system_id').read_text().strip()}"
    try:
        api = docker.APIClient(version="auto", timeout=60)
    except docker.errors.DockerException:
        return
    for container in api.containers(all=True, filters={"label": label}):
        with contextlib.suppress(docker.errors.APIError):
            api.remove_container(container["Id"], force=True, v=True)
    for network in api.networks(filters={"label": label}):
        with contextlib.suppress(docker.errors.APIError):
            api.remove_network(network["Id"])
    for image in api.images(name="nautilus-build", filters={"label": label}):
        with contextlib.suppress(docker.errors.APIError):
            api.remove_image(image["Id"], force=True)
    api.close()


@pytest.fixture
async def service(data_dir: Path) -> AsyncIterator[RunnerProcess]:
    running = RunnerProcess(data_dir)
    yield running
    await running.end()
    remove_networks(data_dir)


@pytest.fixture
def daemon(request: pytest.FixtureRequest) -> Iterator[docker.APIClient]:
    """The Docker daemon, where it has the image that the module names in `IMAGE`; else the test is skipped."""
    import docker

    image = getattr(request.module, "IMAGE", "")
    try:
        api = docker.APIClient(version="auto", timeout=60)
        if image:
            api.inspect_image(image)
    except docker.errors.ImageNotFound:
        pytest.skip(f"the image {image} is not on this machine")
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker daemon answers: {error}")
    yield api
    api.close()
