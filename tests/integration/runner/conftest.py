"""A protocol server, a git host and runners: one in this process, one as the real service that can be killed."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nautilus_runner.files.removal import remove_tree
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.running import RunnerProcess, RunningAgent
from nautilus_runner.testing.server import ProtocolServer


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
    if running.process is not None and running.process.poll() is None:
        running.send(signal.SIGQUIT)
        try:
            await running.wait(15.0)
        except AssertionError:
            running.process.kill()
    remove_networks(data_dir)
