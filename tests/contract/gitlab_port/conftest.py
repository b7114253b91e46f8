"""The port's contract, on the fake, on our forge, and on any server: `pytest --gitlab URL --gitlab-token
T`."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from nautilus.appliance.postgres import ROLE
from nautilus.appliance.schema import ensure_schema
from nautilus.gitlab.port import Project, Visibility
from nautilus.testing.gitlab_worlds import GitLabWorld, MemoryWorld, ServerWorld
from nautilus_forge.testing.elsewhere import elsewhere


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs on the fake and on the forge; with --gitlab, on that server too."""
    if "server" in metafunc.fixturenames:
        given = ["given"] if metafunc.config.getoption("--gitlab") else []
        metafunc.parametrize("server", ["memory", "forge", *given], indirect=True)


@pytest.fixture(scope="session")
def seen_calls() -> set[tuple[str, str]]:
    """Every (method, route template) that the client has asked of a server in this session."""
    return set()


@pytest.fixture(scope="session")
def forge_server(
    postgres_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """One forge for the whole session: these tests share nothing but the server, as on a given one."""
    if importlib.util.find_spec("nautilus_forge") is None:
        pytest.skip("the forge is not installed here")
    from nautilus_forge.testing.server import ADMIN_TOKEN, running_forge

    name = f"t_port_{secrets.token_hex(4)}"
    where = f"host={postgres_folder} user={ROLE}"
    with psycopg.connect(f"{where} dbname=postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}")
        ensure_schema(f"{where} dbname={name}", "forge")
        url = f"postgresql+psycopg://{ROLE}@/{name}?host={postgres_folder}"
        try:
            with running_forge(url, tmp_path_factory.mktemp("forge")) as forge:
                yield forge.url, ADMIN_TOKEN
        finally:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def server(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """URL and administrator's token; None for the fake."""
    if request.param == "memory":
        return None
    if request.param == "forge":
        found: tuple[str, str] = request.getfixturevalue("forge_server")
        return found
    url, token = request.config.getoption("--gitlab"), request.config.getoption("--gitlab-token")
    assert token, "--gitlab needs --gitlab-token"
    request.getfixturevalue("given_server_is_left_as_it_was")
    return url, token


@pytest.fixture
def given_server_is_left_as_it_was() -> Iterator[None]:
    there = elsewhere()
    with there.cleaned() if there is not None else contextlib.nullcontext():
        yield


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
    return await world.gitlab.acting(world.admin).create_project(
        f"port-{secrets.token_hex(5)}", Visibility.PRIVATE, "made by a contract test"
    )
