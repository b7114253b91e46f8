"""A real docker-registry beside a running forge; clients of both."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gitlab
import httpx
import psycopg
import pytest

from nautilus.appliance import registry
from nautilus.appliance.layout import Layout
from nautilus.testing.registry import HOST, running_registry
from nautilus_forge.testing.images import DockerClient
from nautilus_forge.testing.server import ADMIN_TOKEN, RunningForge, running_forge

_RESET = """
delete from projects;
delete from namespaces where kind = 'group';
delete from container_repositories;
delete from users where id > 1;
delete from personal_access_tokens where name <> 'nautilus';
"""


def registry_programs() -> list[object]:
    """Debian's, and others that `NAUTILUS_TEST_REGISTRIES` names (paths, separated by colons)."""
    others = [path for path in os.environ.get("NAUTILUS_TEST_REGISTRIES", "").split(":") if path]
    return [shutil.which("docker-registry") or "", *others]


@pytest.fixture(scope="session", params=registry_programs(), ids=lambda path: Path(path).name or "none")
def registry_program(request: pytest.FixtureRequest) -> str:
    if not request.param:
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    return str(request.param)


@pytest.fixture(scope="session")
def registry_home(registry_program: str) -> Iterator[Path]:
    """Below /tmp: the path of a socket must be short."""
    folder = Path(tempfile.mkdtemp(prefix="nautilus-registry-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def module_forge(
    module_forge_database_url: str, tmp_path_factory: pytest.TempPathFactory, registry_home: Path
) -> Iterator[RunningForge]:
    layout = Layout(registry_home)
    with running_forge(
        module_forge_database_url,
        tmp_path_factory.mktemp("forge"),
        registry_external_url=f"http://{HOST}",
        registry_socket=layout.registry_socket,
        registry_key_file=layout.secret(registry.KEY_NAME),
        registry_certificate_file=layout.secret(registry.CERTIFICATE_NAME),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def registry_process(
    registry_program: str, registry_home: Path, module_forge: RunningForge
) -> Iterator[subprocess.Popen[bytes]]:
    with running_registry(registry_program, registry_home, module_forge.url) as process:
        yield process


@pytest.fixture
def forge(
    module_forge: RunningForge, registry_process: subprocess.Popen[bytes], registry_home: Path
) -> Iterator[RunningForge]:
    """The module's forge, empty but for the administrator; the registry is empty too afterwards."""
    yield module_forge
    conninfo = module_forge.settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute(_RESET)
    shutil.rmtree(Layout(registry_home).registry / "docker", ignore_errors=True)


@pytest.fixture
def root(forge: RunningForge) -> gitlab.Gitlab:
    """The administrator, by the appliance's token."""
    return gitlab.Gitlab(
        forge.url, private_token=ADMIN_TOKEN, keep_base_url=True, retry_transient_errors=False
    )


@pytest.fixture
def user_of(root: gitlab.Gitlab, forge: RunningForge) -> Callable[..., gitlab.Gitlab]:
    """A python-gitlab client for a new user of this name, whose password is `<name> has a password`."""

    def make(username: str) -> gitlab.Gitlab:
        user = root.users.create(
            {
                "username": username,
                "name": username.title(),
                "email": f"{username}@example.com",
                "password": f"{username} has a password",
            }
        )
        token = user.personal_access_tokens.create({"name": "test", "scopes": ["api"]})
        made = gitlab.Gitlab(forge.url, private_token=token.token, keep_base_url=True)
        made.auth()
        return made

    return make


@pytest.fixture
def docker_as(forge: RunningForge, registry_home: Path) -> Iterator[Callable[..., DockerClient]]:
    """A registry client that logs in with a name and a password (or token), or as nobody."""
    transport = httpx.HTTPTransport(uds=str(Layout(registry_home).registry_socket))
    with httpx.Client(transport=transport, base_url=f"http://{HOST}", timeout=30) as http:

        def make(name: str | None = None, password: str = "") -> DockerClient:
            login = (name, password or f"{name} has a password") if name else None
            return DockerClient(http, f"{forge.url}/jwt/auth", login)

        yield make
