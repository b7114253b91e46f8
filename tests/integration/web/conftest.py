"""A service of its own for each test of the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nautilus.testing.world import Browser, World, started


@pytest.fixture
async def world(tmp_path: Path, management_database_url: str) -> AsyncIterator[World]:
    async with started(tmp_path, management_database_url) as made:
        yield made


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with world.browser() as made:
        yield made
