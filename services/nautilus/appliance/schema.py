"""Brings a service's database schema to its head; Alembic is only imported when there is something to do."""

from __future__ import annotations

from pathlib import Path

import psycopg

from nautilus.appliance.layout import PROJECT_ROOT

_LOCK_KEY = 0x4E415554
"""pg_advisory_lock key ("NAUT"): one migration at a time per database."""


def head(service: str, root: Path = PROJECT_ROOT) -> str:
    """The newest revision of `service` ("forge" or "management"): greatest NNNN_….py of its folder."""
    return max(path.name[:4] for path in (root / "migrations" / service).rglob("[0-9][0-9][0-9][0-9]_*.py"))


def current(connection: psycopg.Connection[tuple[str]]) -> str | None:
    """The revision that the database is at; None for an empty one."""
    row = connection.execute("select to_regclass('alembic_version')::text").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("select version_num from alembic_version").fetchone()
    return row[0] if row else None


def ensure_schema(conninfo: str, service: str, root: Path = PROJECT_ROOT) -> bool:
    """Migrates to the head, whole or not at all; True when something changed. `conninfo` is libpq's.

    Raises what the migration raises; the transaction is then rolled back.
    """
    with psycopg.connect(conninfo, autocommit=True) as guard:
        guard.execute("select pg_advisory_lock(%s)", (_LOCK_KEY,))
        if current(guard) == head(service, root):
            return False
        _upgrade(conninfo, service, root)
        return True


def _upgrade(conninfo: str, service: str, root: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(root / "migrations" / service))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
