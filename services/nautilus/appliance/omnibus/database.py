"""GitLab's database on the appliance's PostgreSQL: its role, its extensions, and its way in.

GitLab reaches it by a socket folder of its own that only its group may enter, as role `gitlab`, by the name of the
operating-system user (peer): there is no password to keep. That role reaches no other database.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Iterable
from pathlib import Path

from nautilus.appliance.omnibus.package import DATABASE, EXTENSIONS, ROLE, SYSTEM_USER

ACCESS_RULE = f"local {DATABASE} {ROLE} peer map=gitlab\n"
"""Line of pg_hba.conf; `identities` are its lines of pg_ident.conf."""

SERVER_OPTIONS = {
    # Puma's and Sidekiq's threads, twice: GitLab opens one pool for `main` and one for `ci`.
    "max_connections": "200",
    "shared_buffers": "256MB",
    # Hundreds of partitions in one statement. Source: omnibus-gitlab's default for its own PostgreSQL.
    "max_locks_per_transaction": "128",
    # Two socket folders, each kept by its own mode; who somebody is, `peer` asks of the kernel.
    "unix_socket_permissions": "0777",
}
"""What differs from the lite edition's server."""


def identities(*others: str) -> str:
    """Who may be `gitlab`: GitLab's system user, and those who are masters of the machine anyway."""
    return "".join(f"gitlab {user} {ROLE}\n" for user in dict.fromkeys((SYSTEM_USER, *others)))


def ensure_socket_folder(folder: Path, owner_uid: int) -> None:
    """The folder of GitLab's socket: the server's user writes, GitLab's group passes, nobody else sees it."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, owner_uid, _group_id())
    folder.chmod(0o750)


def ensure_gitlab_database(server: str) -> None:
    """Role, database and extensions, by a superuser. `server`: libpq's words for the server, without a database."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
        if not connection.execute("select from pg_roles where rolname = %s", (ROLE,)).fetchall():
            connection.execute(sql.SQL("create role {} login").format(sql.Identifier(ROLE)))
        if not connection.execute("select from pg_database where datname = %s", (DATABASE,)).fetchall():
            names = (sql.Identifier(DATABASE), sql.Identifier(ROLE))
            connection.execute(sql.SQL("create database {} owner {}").format(*names))
    with psycopg.connect(f"{server} dbname={DATABASE}", autocommit=True) as connection:
        for extension in EXTENSIONS:
            connection.execute(sql.SQL("create extension if not exists {}").format(sql.Identifier(extension)))


def is_prepared(server: str) -> bool:
    """Whether `ensure_gitlab_database` has done its work."""
    import psycopg

    try:
        with psycopg.connect(f"{server} dbname={DATABASE}", connect_timeout=2) as connection:
            found = connection.execute("select extname from pg_extension").fetchall()
    except psycopg.OperationalError:
        return False
    return _holds(EXTENSIONS, (str(row[0]) for row in found))


def is_empty(server: str) -> bool:
    """Whether GitLab has not made its tables yet."""
    import psycopg

    with psycopg.connect(f"{server} dbname={DATABASE}", connect_timeout=5) as connection:
        row = connection.execute("select to_regclass('public.users')").fetchone()
    return row is None or row[0] is None


def _holds(wanted: Iterable[str], found: Iterable[str]) -> bool:
    return set(wanted) <= set(found)


def _group_id() -> int:
    try:
        return grp.getgrnam(SYSTEM_USER).gr_gid
    except KeyError:
        return -1
