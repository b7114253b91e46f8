"""The port's contract, on the fake, on our forge, and on any server: `pytest --gitlab URL --gitlab-token
T`."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nautilus.gitlab.port import Project, Visibility
from nautilus.testing.gitlab_worlds import GitLabWorld, MemoryWorld, ServerWorld

SERVERS = ["memory", "forge", "given"]


@pytest.fixture(scope="session")
def seen_calls() -> set[tuple[str, str]]:
    """Every (method, route template) that the client has asked of a server in this session."""
    return set()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str] | None]:
    """URL and administrator's token; None for the fake."""
    if request.param == "memory":
        yield None
    elif request.param == "given":
        url, token = request.config.getoption("--gitlab"), request.config.getoption("--gitlab-token")
        if not url or not token:
            pytest.skip("no server was given (--gitlab URL --gitlab-token T)")
        yield url, token
    else:
        if importlib.util.find_spec("nautilus_forge") is None:
            pytest.skip("the forge is not installed here")
        from nautilus_forge.testing.server import ADMIN_TOKEN, running_forge

        with ExitStack() as stack:
            database_url = request.getfixturevalue("forge_database_url")
            yield stack.enter_context(running_forge(database_url, tmp_path)).url, ADMIN_TOKEN


@pytest.fixture
async def world(
    server: tuple[str, str] | None, seen_calls: set[tuple[str, str]]
) -> AsyncIterator[GitLabWorld]:
    made: GitLabWorld = (
        MemoryWorld()
        if server is None
        else ServerWorld(*server, observer=lambda method, template: seen_calls.add((method, template)))
    )
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def project(world: GitLabWorld) -> Project:
    """A private project of the administrator's, without a commit."""
    import secrets

    return await world.gitlab.acting(world.admin).create_project(
        f"port-{secrets.token_hex(5)}", Visibility.PRIVATE, "made by a contract test"
    )
