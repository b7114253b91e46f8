"""A connection that the server ended while nobody used it costs nobody an answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url

from nautilus_forge.db.engine import Database
from nautilus_forge.testing.server import settings_for

_PID = text("SELECT pg_backend_pid()")


def test_an_ended_connection_is_replaced_before_it_is_used(forge_database_url: str, tmp_path: Path) -> None:
    admin = make_url(forge_database_url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def use_twice() -> tuple[int, int]:
        database = Database(settings_for(forge_database_url, tmp_path, 1))
        async with database.unit_of_work() as db:
            first: int = (await db.execute(_PID)).scalar_one()
        await asyncio.to_thread(_end, admin, first)
        async with database.unit_of_work() as db:
            second: int = (await db.execute(_PID)).scalar_one()
        await database.close()
        return first, second

    first, second = asyncio.run(use_twice())
    assert first != second


def _end(conninfo: str, pid: int) -> None:
    """Ends that connection, and comes back when the server has."""
    with psycopg.connect(conninfo, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        deadline = time.monotonic() + 30
        while admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() is not None:
            assert time.monotonic() < deadline, f"connection {pid} does not end"
            time.sleep(0.01)
