"""Management with real PostgreSQL: beside a fake GitLab whose runner the test plays, or beside a real forge."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from nautilus.core.identity import CredentialKind
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import Runner
from nautilus.settings import Settings
from nautilus.testing.gitlab_worlds import ServerWorld
from nautilus.testing.management import (
    SERVICE_TOKEN,
    RunningManagement,
    management_settings,
    running_management,
)

if TYPE_CHECKING:
    from nautilus_runner.testing.running import RunnerProcess

ADA = "glpat-ada"


@pytest.fixture
def gitlab() -> MemoryGitLab:
    server = MemoryGitLab()
    server.add_user("root", SERVICE_TOKEN, is_admin=True)
    server.add_user("ada", ADA)
    server.add_user("eve", "glpat-eve")
    server.runner_list = [Runner(1, "bundled", "instance_type", "online", False, True)]
    return server


@pytest.fixture
def settings(management_database_url: str, tmp_path: Path) -> Settings:
    return management_settings(management_database_url, tmp_path, external_url="http://nautilus.test")


@pytest.fixture
async def management(settings: Settings, gitlab: MemoryGitLab) -> AsyncIterator[RunningManagement]:
    async with running_management(settings, gitlab) as running:
        yield running


@pytest.fixture
async def ada(management: RunningManagement) -> AsyncIterator[httpx.AsyncClient]:
    """The API as ada, who owns the project of these tests."""
    async with management.client(ADA) as client:
        yield client


@pytest.fixture
async def project(ada: httpx.AsyncClient) -> dict[str, Any]:
    answer = await ada.post("/api/v1/projects", json={"name": "digits", "template": "empty"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


# ---- beside a real forge


@pytest.fixture
def forge_url(forge_database_url: str, tmp_path: Path) -> Iterator[str]:
    server = pytest.importorskip("nautilus_forge.testing.server")
    (tmp_path / "forge").mkdir()
    with server.running_forge(forge_database_url, tmp_path / "forge") as forge:
        yield forge.url


@pytest.fixture
async def forge(forge_url: str) -> AsyncIterator[ServerWorld]:
    from nautilus_forge.testing.server import ADMIN_TOKEN

    world = ServerWorld(forge_url, ADMIN_TOKEN)
    await world.make_runner()
    yield world
    await world.close()


@pytest.fixture
async def nautilus(
    forge: ServerWorld, forge_url: str, management_database_url: str, tmp_path: Path
) -> AsyncIterator[RunningManagement]:
    from nautilus_forge.testing.server import ADMIN_TOKEN

    settings = management_settings(management_database_url, tmp_path / "home", gitlab_url=forge_url)
    settings.admin_token_file.write_text(ADMIN_TOKEN)
    async with running_management(settings) as running:
        yield running


@pytest.fixture
async def user(forge: ServerWorld, nautilus: RunningManagement) -> AsyncIterator[httpx.AsyncClient]:
    credential = await forge.make_user()
    assert credential.kind is CredentialKind.PERSONAL
    async with nautilus.client(credential.token.get_secret_value()) as client:
        yield client


@pytest.fixture
async def machine(
    forge: ServerWorld, forge_url: str, nautilus: RunningManagement
) -> AsyncIterator[Callable[[], RunnerProcess]]:
    """Starts a runner with a disk of its own. Jobs fetch nothing: no Git is served here."""
    running = pytest.importorskip("nautilus_runner.testing.running")
    from nautilus_runner.files.removal import remove_tree

    started: list[RunnerProcess] = []

    def start() -> RunnerProcess:
        folder = Path(tempfile.mkdtemp(prefix="nautilus-machine-", dir="/tmp"))
        folder.chmod(0o711)
        runner: RunnerProcess = running.RunnerProcess(folder)
        runner.configure(
            forge_url,
            token=forge.runner_token,
            nautilus_url=nautilus.url,
            environment=["GIT_STRATEGY=none"],
            process={"user": running.JOB_USER if os.geteuid() == 0 else ""},
        )
        runner.start()
        started.append(runner)
        return runner

    yield start
    for runner in started:
        await runner.end()
        print(runner.log()[-3000:])
        remove_tree(runner.data_dir)
