"""Git and git-lfs as clients of a whole server: nginx, fcgiwrap, `git http-backend`, the forge and its hooks.

One server serves a module; each test makes its own project.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import gitlab
import pytest

from nautilus_forge.testing.elsewhere import elsewhere
from nautilus_forge.testing.git_server import GitServer, LfsClient
from nautilus_forge.testing.server import ADMIN_TOKEN, running_forge
from nautilus_gateway.appliance import Ports, appliance_config
from nautilus_gateway.render import render
from nautilus_gateway.testing.programs import free_ports, running_fcgiwrap, running_nginx, short_home
from nautilus_gateway.testing.stack import GIT_ENVIRONMENT

_names = itertools.count(1)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[GitServer]:
    """A whole server of the module's own; the one that the environment names, where it names one."""
    if shutil.which("git-lfs") is None:
        pytest.skip("git-lfs is not installed")
    with short_home() as home:
        (home / "work").mkdir()
        if (there := elsewhere()) is not None:
            with there.cleaned():
                yield GitServer(there.url, home / "work", GIT_ENVIRONMENT)
            return
        ports = Ports(*free_ports(3))
        user = "root" if os.geteuid() == 0 else ""
        rendered = home / "etc" / "nginx.conf"
        rendered.write_text(render(appliance_config(home, ports=ports, user=user)))
        url = f"http://127.0.0.1:{ports.gitlab}"
        changes = {
            "data_dir": home / "forge",
            "socket": home / "run" / "forge.sock",
            "spool_dir": home / "spool",
            "external_url": url,
        }
        database_url = request.getfixturevalue("module_forge_database_url")
        with (
            running_forge(database_url, home, None, **changes),
            running_fcgiwrap(home / "run" / "git.sock", home / "log" / "git.log", 4),
            running_nginx(rendered, ports.gitlab, home / "log" / "gateway.log"),
        ):
            yield GitServer(url, home / "work", GIT_ENVIRONMENT)


@pytest.fixture(scope="module")
def root(server: GitServer) -> gitlab.Gitlab:
    return gitlab.Gitlab(server.url, private_token=ADMIN_TOKEN, keep_base_url=True)


@pytest.fixture
def project(root: gitlab.Gitlab) -> Iterator[Any]:
    """A private project of root's with a README on `main`."""
    made = root.projects.create({"name": f"data-{next(_names)}", "initialize_with_readme": True})
    yield made
    made.delete()


@pytest.fixture
def lfs(project: Any) -> LfsClient:
    """The project's LFS API, as root."""
    return LfsClient(project.http_url_to_repo, ("oauth2", ADMIN_TOKEN))


Person = tuple[Any, str]


@pytest.fixture(scope="module")
def person(root: gitlab.Gitlab) -> Callable[..., Person]:
    """Makes a user with a token of these scopes, a member of `project` at `level`."""

    def make(project: Any = None, level: int = 0, scopes: tuple[str, ...] = ("api",)) -> Person:
        name = f"ann-{next(_names)}"
        user = root.users.create(
            {
                "username": name,
                "name": name.title(),
                "email": f"{name}@example.com",
                "force_random_password": True,
                "skip_confirmation": True,
            }
        )
        if project is not None and level:
            project.members.create({"user_id": user.id, "access_level": level})
        token = user.personal_access_tokens.create({"name": "git", "scopes": list(scopes)})
        return user, token.token

    return make
