"""One real PostgreSQL for the whole test run; each test gets a clone of a migrated template database."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from nautilus.appliance import accounts, postgres, schema
from nautilus_forge.testing import elsewhere
from nautilus_forge.testing.plugin import ContractPlugin

_ENVIRONMENT = "NAUTILUS_TEST_POSTGRES"

elsewhere.install()  # at once: the conftests below import what it changes


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--gitlab",
        default=os.environ.get(elsewhere.URL),
        help="run the GitLab port's contract tests against this URL too",
    )
    parser.addoption(
        "--gitlab-token",
        default=os.environ.get(elsewhere.TOKEN),
        help="an administrator's token (scopes api, sudo) for --gitlab",
    )


def pytest_configure(config: pytest.Config) -> None:
    if elsewhere.elsewhere() is None:
        contract = Path(__file__).parent / "contract"
        config.pluginmanager.register(ContractPlugin(contract / "data", contract), "gitlab-contract")
    if not hasattr(config, "workerinput"):
        os.environ[_ENVIRONMENT] = tempfile.mkdtemp(prefix="nautilus-pg-", dir="/tmp")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if elsewhere.elsewhere() is not None and isinstance(item, pytest.Function):
        if item.get_closest_marker("alone") is not None:
            pytest.skip(f"wants a forge of its own, with nothing else on it; {elsewhere.URL} is set")
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        secret = elsewhere.needs_a_secret([item.function, *(found[-1].func for found in fixtures)])
        if secret is not None:
            pytest.skip(f"needs {secret}, which nobody knows of another server; {elsewhere.URL} is set")


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    folder = Path(os.environ.pop(_ENVIRONMENT))
    if (folder / "data" / "postmaster.pid").exists():
        _as_service_user(
            [_binaries().program("pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "stop"]
        )
    shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> postgres.Binaries:
    return postgres.binaries_for(Path("/nonexistent"), postgres.installed_binaries())


def _as_service_user(argv: list[str]) -> None:
    who = accounts.ensure_accounts()
    subprocess.run(
        argv,
        check=True,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd="/",
        **who.service_process(),
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_cluster(folder: Path) -> None:
    data, binaries = folder / "data", _binaries()
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, accounts.ensure_accounts().service_uid, -1)
    _as_service_user([*postgres.initdb_argv(binaries, data), "--no-sync"])
    (data / "pg_hba.conf").write_text("local all all trust\n")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
    _as_service_user(
        [binaries.program("pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"]
    )
    with psycopg.connect(f"host={folder} user={postgres.ROLE} dbname=postgres", autocommit=True) as admin:
        admin.execute("create database template_empty")


@pytest.fixture(scope="session")
def postgres_folder() -> Path:
    """Socket folder of the running test cluster (role `nautilus`, trust)."""
    folder = Path(os.environ[_ENVIRONMENT])
    with _locked(folder):
        if not (folder / "data").exists():
            _start_cluster(folder)
    return folder


def _template(folder: Path, service: str) -> str:
    """Name of the database that is migrated to `service`'s head, made once per run."""
    name = f"template_{service}"
    with (
        _locked(folder),
        psycopg.connect(f"host={folder} user={postgres.ROLE} dbname=postgres", autocommit=True) as admin,
    ):
        if admin.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is None:
            admin.execute(f"create database {name}_new")
            schema.ensure_schema(f"host={folder} user={postgres.ROLE} dbname={name}_new", service)
            admin.execute(f"alter database {name}_new rename to {name}")
    return name


@contextmanager
def _clone(folder: Path, template: str) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(f"host={folder} user={postgres.ROLE} dbname=postgres", autocommit=True) as admin:
        with _locked(folder):
            admin.execute(f"create database {name} template {template}")
        try:
            yield f"postgresql+psycopg://{postgres.ROLE}@/{name}?host={folder}"
        finally:
            admin.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def empty_database_url(postgres_folder: Path) -> Iterator[str]:
    """Async SQLAlchemy URL of a private, empty database."""
    with _clone(postgres_folder, "template_empty") as url:
        yield url


@pytest.fixture
def forge_database_url(postgres_folder: Path) -> Iterator[str]:
    """Async SQLAlchemy URL of a private database with the forge's newest schema."""
    with _clone(postgres_folder, _template(postgres_folder, "forge")) as url:
        yield url


@pytest.fixture(scope="module")
def module_forge_database_url(postgres_folder: Path) -> Iterator[str]:
    """As `forge_database_url`, but one for all tests of a module."""
    with _clone(postgres_folder, _template(postgres_folder, "forge")) as url:
        yield url


@pytest.fixture
def management_database_url(postgres_folder: Path) -> Iterator[str]:
    """Async SQLAlchemy URL of a private database with management's newest schema."""
    with _clone(postgres_folder, _template(postgres_folder, "management")) as url:
        yield url


@pytest.fixture(scope="session")
def service_account() -> accounts.Accounts:
    return accounts.ensure_accounts()
