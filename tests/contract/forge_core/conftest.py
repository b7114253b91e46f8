"""A running forge and python-gitlab clients for it.

One forge serves a whole module; after each test everything but the administrator and the appliance's token is
deleted, so that every test finds an empty forge (ids go on counting).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import gitlab
import psycopg
import pytest

from nautilus_forge.testing.elsewhere import elsewhere
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

_RESET = """
delete from projects;
delete from topics;
delete from namespaces where kind = 'group';
delete from users where id > 1;
delete from keys;
delete from sessions;
delete from oauth_applications;
delete from application_settings;
delete from personal_access_tokens where name <> 'nautilus';
update users set failed_attempts = 0, locked_at = null, state = 'active';
"""


@contextmanager
def emptied_afterwards(running: RunningForge) -> Iterator[RunningForge]:
    if (there := elsewhere()) is not None:
        with there.cleaned():
            yield running
        return
    conninfo = running.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo, autocommit=True) as db:
        row = db.execute("select password_hash from users where id = 1").fetchone()
        yield running
        db.execute(_RESET)
        db.execute("update users set password_hash = %s where id = 1", row)


@pytest.fixture(scope="module")
def module_forge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningForge]:
    """A forge of the module's own; the server that the environment names, where it names one."""
    if (there := elsewhere()) is not None:
        with there.cleaned():
            yield cast(RunningForge, there)
        return
    database_url = request.getfixturevalue("module_forge_database_url")
    with running_forge(database_url, tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
def forge(module_forge: RunningForge) -> Iterator[RunningForge]:
    with emptied_afterwards(module_forge) as running:
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
