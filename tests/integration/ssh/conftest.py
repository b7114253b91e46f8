"""One forge and one sshd for all tests of this folder; each test has its project and its people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nautilus.appliance.sshd import sshd_path
from nautilus.testing.git_over_ssh import SshForge, running_ssh_forge, usable_python

Person = Callable[..., dict[str, Any]]
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def forge(module_forge_database_url: str) -> Iterator[SshForge]:
    python = usable_python()
    if not sshd_path() or not python:
        pytest.skip(
            "sshd is not installed" if python else "the services' account may run no Python that has all"
        )
    with running_ssh_forge(module_forge_database_url, python) as running:
        running.call("POST", "/user/keys", 201, title="root's", key=running.public("root"))
        yield running


@pytest.fixture
def project(forge: SshForge) -> Iterator[dict[str, Any]]:
    """A private project of root's with a README on `main`, which is protected."""
    name = f"digits-{next(_numbers)}"
    made = forge.call("POST", "/projects", 201, name=name, initialize_with_readme=True)
    yield made
    forge.call("DELETE", f"/projects/{made['id']}", 202)


@pytest.fixture
def person(forge: SshForge) -> Iterator[Person]:
    """Makes a user with a key of the same name; `level`: membership in `project`."""
    made: list[int] = []

    def make(project: dict[str, Any] | None = None, level: int = 0, **key: Any) -> dict[str, Any]:
        name = f"ann-{next(_numbers)}"
        user = forge.call(
            "POST",
            "/users",
            201,
            username=name,
            name=name.title(),
            email=f"{name}@example.com",
            password="correct horse battery",
        )
        made.append(user["id"])
        user["key"] = forge.call(
            "POST", f"/users/{user['id']}/keys", 201, title="laptop", key=forge.public(name), **key
        )
        if project is not None and level:
            members = f"/projects/{project['id']}/members"
            forge.call("POST", members, 201, user_id=user["id"], access_level=level)
        return dict(user)

    yield make
    for user_id in made:
        forge.call("DELETE", f"/users/{user_id}", 204)
