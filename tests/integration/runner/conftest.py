"""A protocol server, a git host and runners: one in this process, one as the real service that can be killed."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

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
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Where a job's user can reach it, as a real installation's."""
    for step in (tmp_path, *tmp_path.parents):
        if step.owner() == pwd.getpwuid(os.geteuid()).pw_name and step != Path("/"):
            step.chmod(step.stat().st_mode | 0o011)
    folder = tmp_path / "runner"
    folder.mkdir(mode=0o711)
    yield folder


@pytest.fixture
async def runner(data_dir: Path) -> AsyncIterator[RunningAgent]:
    running = RunningAgent(data_dir)
    yield running
    await running.stop()


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
