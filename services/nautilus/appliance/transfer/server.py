"""A PostgreSQL to dump from or restore into: the running appliance's, or one started for the purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import MissingProgram, TransferFailed
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import package as omnibus
from nautilus.appliance.postgres import ROLE, Binaries, conninfo, server_argv
from nautilus.appliance.processes import MARKER

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Server:
    """`sockets`: folder of its unix socket."""

    binaries: Binaries
    sockets: Path

    @property
    def conninfo(self) -> str:
        return conninfo(self.sockets)

    def dump(self, database: str, out: Path) -> None:
        """In pg_dump's own format, readable by this and later major versions. Raises TransferFailed."""
        out.touch(mode=0o600)
        self._run(
            "pg_dump", "--format=custom", "--compress=1", *_KEPT, f"--file={out}", f"--dbname={database}"
        )

    def restore(self, database: str, dump: Path) -> None:
        """Into an existing, empty database, whole or not at all. Raises TransferFailed."""
        role = (f"--role={omnibus.ROLE}",) if database == omnibus.DATABASE else ()
        how = ("--exit-on-error", "--single-transaction", *_KEPT, *role)
        self._run("pg_restore", *how, f"--dbname={database}", str(dump))

    def make_database(self, name: str) -> None:
        """An empty one. Raises TransferFailed where it is there already."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(f"{self.conninfo} dbname=postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def _run(self, program: str, *arguments: str) -> None:
        path = self.binaries.program(program)
        if not Path(path).exists():
            raise MissingProgram(f"{path} is missing: run `apt-get install postgresql-client`")
        where = {"PGHOST": str(self.sockets), "PGUSER": ROLE, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run([path, *arguments], capture_output=True, text=True, env=where)
        if done.returncode != 0:
            said = (done.stderr.strip() or f"status {done.returncode}").splitlines()
            raise TransferFailed(f"{program} failed: {said[0]}")


_KEPT = ("--no-owner", "--no-privileges", "--no-comments")
"""Who owns what follows from whose database it is; comments on extensions only a superuser may restore."""


@contextmanager
def temporary_server(layout: Layout, cluster: Path, binaries: Binaries, who: Accounts) -> Iterator[Server]:
    """A server on a cluster that no other serves, as the service user, on a socket that nobody else finds."""
    with (
        tempfile.TemporaryDirectory(prefix="nautilus-pg-", dir="/tmp") as folder,
        tempfile.TemporaryFile() as log,
    ):
        if os.geteuid() == 0:
            os.chown(folder, who.service_uid, who.service_gid)
        child = subprocess.Popen(
            server_argv(binaries, cluster, Path(folder)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", MARKER: str(layout.home)},
            **who.service_process(),
            start_new_session=True,
        )
        server = Server(binaries, Path(folder))
        try:
            _wait_answers(server, child)
            yield server
        finally:
            child.send_signal(signal.SIGINT)
            child.wait()


def _wait_answers(server: Server, child: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            psycopg.connect(f"{server.conninfo} dbname=postgres", connect_timeout=2).close()
            return
        except psycopg.OperationalError as error:
            if child.poll() is not None or time.monotonic() > deadline:
                raise TransferFailed(f"PostgreSQL did not start: {str(error).splitlines()[0]}") from error
        time.sleep(0.05)
