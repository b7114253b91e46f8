"""A running forge and python-gitlab clients for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    return gitlab.Gitlab(
        forge.url, private_token=ADMIN_TOKEN, keep_base_url=True, retry_transient_errors=False
    )


@pytest.fixture
def client_of(root: gitlab.Gitlab, forge: RunningForge) -> Callable[..., gitlab.Gitlab]:
    """A client for a user of this name, who is made when he does not exist yet; `auth()` has been called."""

    def client(username: str, scopes: tuple[str, ...] = ("api",)) -> gitlab.Gitlab:
        found = root.users.list(username=username)
        user = (
            found[0]
            if found
            else root.users.create(
                {
                    "username": username,
                    "name": username.title(),
                    "email": f"{username}@example.com",
                    "password": f"{username} has a password",
                }
            )
        )
        token = user.personal_access_tokens.create({"name": "test", "scopes": list(scopes)})
        made = gitlab.Gitlab(forge.url, private_token=token.token, keep_base_url=True)
        if "api" in scopes:
            made.auth()
        return made

    return client
