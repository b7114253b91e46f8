"""PostgreSQL on TCP: the role that reads gets in by its password, sees the views, and nothing and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from nautilus.appliance import accounts, postgres, reading, schema
from nautilus.appliance.tcp_access import TcpAccess
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import end_group, free_ports, wait_until

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Server:
    """A running server, as the appliance starts it. `tls` is its certificate's file."""

    folder: Path
    port: int
    tls: Path | None

    def owner(self, database: str = "nautilus") -> psycopg.Connection:
        return psycopg.connect(f"host={self.folder}/sockets user=nautilus dbname={database}", autocommit=True)

    def reader(self, password: str = PASSWORD, **more: str) -> psycopg.Connection:
        fields = {"host": "127.0.0.1", "dbname": "nautilus", "user": reading.ROLE, "sslmode": "prefer"} | more
        return psycopg.connect(
            **fields, port=self.port, password=password, autocommit=True, connect_timeout=10
        )


@contextmanager
def running_server(with_tls: bool) -> Iterator[Server]:
    """A cluster of its own, since the one of the tests trusts everybody on its socket."""
    folder = Path(tempfile.mkdtemp(prefix="nautilus-db-", dir="/tmp"))
    who = accounts.ensure_accounts()
    is_root = os.geteuid() == 0
    uid = who.service_uid if is_root else None
    binaries = postgres.binaries_for(Path("/nonexistent"), postgres.installed_binaries())
    tls = self_signed(folder, "IP:127.0.0.1") if with_tls else None
    [port] = free_ports(1)
    tcp = TcpAccess(("127.0.0.1",), port, tls.certificate if tls else None, tls.key if tls else None)
    (folder / "sockets").mkdir()
    for path in (folder, *folder.iterdir()) if is_root else ():
        shutil.chown(path, who.service)
    cluster = folder / "data"
    initdb = [*postgres.initdb_argv(binaries, cluster), "--no-sync"]
    subprocess.run(
        initdb, check=True, capture_output=True, cwd="/", user=uid, extra_groups=[] if is_root else None
    )
    postgres.ensure_access_rules(cluster, [who.service, "root"], tcp=tcp)
    tcp.link_socket(folder / "sockets")
    argv = [*postgres.server_argv(binaries, cluster, folder / "sockets", tcp=tcp), "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            stdout=log,
            stderr=log,
            cwd="/",
            user=uid,
            start_new_session=True,
            extra_groups=[] if is_root else None,
        )
    server = Server(folder, port, tls.certificate if tls else None)
    try:
        wait_until(lambda: _answers(server), "PostgreSQL")
        with server.owner("postgres") as owner:
            for name in ("nautilus", "forge"):
                owner.execute(f"create database {name}")
        schema.ensure_schema(f"host={folder}/sockets user=nautilus dbname=nautilus", "management")
        yield server
    finally:
        end_group(process)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(server: Server) -> bool:
    try:
        server.owner("postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with running_server(with_tls=True) as server:
        with server.owner() as owner:
            reading.ensure_reading(owner, PASSWORD)
            owner.execute(
                "insert into tracking_experiment (id, name, created_ms, updated_ms) values (7, 'g/p', 0, 0);"
                "insert into tracking_run (run_id, experiment_id, name, user_name, status, start_time_ms)"
                " values ('r1', 7, 'one', 'ada', 3, 1500);"
                "insert into tracking_metric_key (name) values ('loss');"
                "insert into tracking_metric (run, key, step, timestamp_ms, value) values (1, 1, 0, 2000, 0.5)"
            )
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    return shared_server


def test_the_role_reads_metrics(server: Server) -> None:
    with server.reader() as connection:
        [row] = connection.execute(
            "select run_id, key, step, value, extract(epoch from logged_at) from metrics"
        ).fetchall()
        assert row == ("r1", "loss", 0, 0.5, 2)
        assert connection.execute("select status, user_name from runs").fetchall() == [("FINISHED", "ada")]
        for view in reading.VIEWS:
            connection.execute(f"select * from {view}").fetchall()


def test_every_column_of_every_table_is_shown_or_hidden_by_name(server: Server) -> None:
    """A new table or column decides whether it may be read."""
    with server.owner() as owner:
        tables = owner.execute(
            "select table_name, array_agg(column_name::text) from information_schema.columns"
            " where table_schema = 'public' group by 1"
        ).fetchall()
        used: dict[str, set[str]] = {}
        for table, column in owner.execute(
            "select table_name, column_name from information_schema.view_column_usage where view_schema = 'reading'"
        ):
            used.setdefault(table, set()).add(column)
    for table, columns in tables:
        hidden = reading.HIDDEN_COLUMNS.get(table, set())
        if table in reading.HIDDEN_TABLES:
            assert table not in used
        else:
            assert used[table] & hidden == set(), table
            assert used[table] | hidden == set(columns), table


@pytest.mark.parametrize(
    "statement",
    [
        "select * from public.web_sessions",
        "select access_token from public.web_sessions",
        "select env from public.experiments",
        "select * from public.experiments",
        "select rolpassword from pg_authid",
        "select pg_read_file('/etc/passwd')",
        "insert into reading.sweeps (project_id, user_id, size) values (1, 1, 1)",
        "update reading.sweeps set size = 1",
        "update public.tracking_run set name = 'x'",
        "delete from reading.sweeps",
        "create table t (a int)",
        "create table reading.t (a int)",
        "create temporary table t (a int)",
        "create schema s",
        "create role r",
        "select lo_create(0)",
        "copy (select 1) to program 'id'",
        "set role nautilus",
        "alter role nautilus_read superuser",
    ],
)
@pytest.mark.parametrize("is_read_only", ["on", "off"])
def test_what_the_role_may_not_do(server: Server, statement: str, is_read_only: str) -> None:
    """Also when it lifts the guard that its sessions begin with."""
    with server.reader() as connection:
        connection.execute(f"set default_transaction_read_only = {is_read_only}")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            connection.execute(statement)


def test_sessions_begin_guarded(server: Server) -> None:
    with server.reader() as connection:
        names = ("default_transaction_read_only", "statement_timeout", "search_path")
        found = [connection.execute(f"show {name}").fetchone() for name in names]
    assert found == [("on",), ("1min",), ("reading",)]


@pytest.mark.parametrize(
    ("fields", "password"),
    [
        ({}, "wrong"),
        ({}, ""),
        ({"dbname": "forge"}, PASSWORD),
        ({"dbname": "postgres"}, PASSWORD),
        ({"dbname": "template1"}, PASSWORD),
        ({"user": "nautilus"}, PASSWORD),
        ({"user": "postgres"}, PASSWORD),
        ({"sslmode": "disable"}, PASSWORD),
    ],
)
def test_who_does_not_get_in(server: Server, fields: dict[str, str], password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"password|reject|no pg_hba|no password"):
        server.reader(password, **fields)


def test_the_connection_is_encrypted_and_the_certificate_can_be_verified(server: Server) -> None:
    with server.reader(sslmode="verify-full", sslrootcert=str(server.tls)) as connection:
        assert connection.pgconn.ssl_in_use


def test_only_so_many_connections_at_a_time(server: Server) -> None:
    held = [server.reader() for _ in range(reading.CONNECTIONS)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            server.reader()
    finally:
        for connection in held:
            connection.close()


def test_a_new_password_ends_the_old_ones_sessions(server: Server) -> None:
    old = server.reader()
    with server.owner() as owner:
        reading.set_password(owner, "another")
        try:
            with pytest.raises(psycopg.OperationalError):
                old.execute("select 1")
            with pytest.raises(psycopg.OperationalError, match="password"):
                server.reader()
            server.reader("another").close()
        finally:
            reading.set_password(owner, PASSWORD)


def test_the_password_is_stored_as_scram_and_never_sent(server: Server) -> None:
    with server.owner() as owner:
        [[stored]] = owner.execute(
            "select rolpassword from pg_authid where rolname = %s", (reading.ROLE,)
        ).fetchall()
    assert stored.startswith("SCRAM-SHA-256$")
    assert PASSWORD not in (server.folder / "log").read_text()


def test_without_a_certificate_the_password_alone_decides_and_off_is_off() -> None:
    with running_server(with_tls=False) as server:
        with server.owner() as owner:
            reading.ensure_reading(owner, PASSWORD)
            reading.ensure_reading(owner, PASSWORD)  # as at the next start
        server.reader(sslmode="disable").close()
        with server.owner() as owner:
            reading.shut_reading(owner)
            left = "select count(*) from information_schema.views where table_schema = 'reading'"
            assert owner.execute(left).fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError, match=r"password|permitted"):
            server.reader()
