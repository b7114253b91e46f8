"""Management with real PostgreSQL and a fake GitLab whose runner the test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import Runner
from nautilus.settings import Settings
from nautilus.testing.management import (
    SERVICE_TOKEN,
    RunningManagement,
    management_settings,
    running_management,
)

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
