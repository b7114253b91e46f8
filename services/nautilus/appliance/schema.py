"""Brings a service's database schema to its head: an empty database by one SQL script, others by Alembic.

The script is what Alembic says for an empty database (`migrations/<service>/schema.sql`, as Rails' structure.sql),
so that the first boot does not import it. `python -m nautilus.appliance.schema` writes it anew after a migration
was added; a test holds it to the migrations.
"""

from __future__ import annotations

import io
from pathlib import Path

import psycopg

from nautilus.appliance.layout import PROJECT_ROOT

SERVICES = ("forge", "management")

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
        at = current(guard)
        if at == head(service, root):
            return False
        if at is None and _is_empty(guard):
            with guard.transaction():
                guard.execute(script_path(service, root).read_bytes())
        else:
            upgrade(conninfo, service, root)
        return True


def script_path(service: str, root: Path = PROJECT_ROOT) -> Path:
    """The SQL script that makes an empty database one of the newest revision."""
    return root / "migrations" / service / "schema.sql"


def script(service: str, root: Path = PROJECT_ROOT) -> str:
    """That script, from the migrations; no database is asked."""
    from alembic import command
    from alembic.config import Config

    written = io.StringIO()
    config = Config(output_buffer=written)
    config.set_main_option("script_location", str(root / "migrations" / service))
    config.attributes["url"] = "postgresql+psycopg://"
    command.upgrade(config, "head", sql=True)
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    kept = [line for line in lines if line not in ("BEGIN;", "COMMIT;", "")]
    return "-- Made by `python -m nautilus.appliance.schema` from the migrations.\n" + "\n".join(kept) + "\n"


def _is_empty(connection: psycopg.Connection[tuple[str]]) -> bool:
    row = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    return row is not None and int(row[0]) == 0


def upgrade(conninfo: str, service: str, root: Path = PROJECT_ROOT, to: str = "head") -> None:
    """Runs the migrations up to the revision `to`, in one transaction."""
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
        command.upgrade(config, to)
    engine.dispose()


def main() -> None:
    for service in SERVICES:
        script_path(service).write_text(script(service))


if __name__ == "__main__":
    main()
