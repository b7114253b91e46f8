"""A running forge and python-gitlab clients for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gitlab
import pytest

from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge


@pytest.fixture
def forge(forge_database_url: str, tmp_path: Path) -> Iterator[RunningForge]:
    with running_forge(forge_database_url, tmp_path) as running:
        yield running


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    """The administrator, by the appliance's token."""
    return gitlab.Gitlab(forge.url, private_token=ADMIN_TOKEN, keep_base_url=True, retry_transient_errors=False)
