"""Tracking's own few connections to PostgreSQL, straight through psycopg.

A script that logs in its training loop waits for each answer, so the path from request to commit holds nothing but
a prepared statement: no object mapper, no session, one round trip that is its own transaction. Reads use the same
connections. Connections open at first use and close when nobody has needed them for a while (each costs memory).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy.engine import make_url

from nautilus.tracking.errors import DiskFull, Unavailable

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
WAIT_TIMEOUT_S = 10.0
IDLE_S = 60.0
TRUSTED_S = 1.0
"""Idle for less than this, a connection is used without asking whether it still answers."""
STATEMENT_TIMEOUT_S = 30
_DEADLOCK_TRIES = 3


class Int4Array(bytes):
    """PostgreSQL's binary form of an int4[]."""


class Int8Array(bytes):
    """PostgreSQL's binary form of an int8[]."""


class Float8Array(bytes):
    """PostgreSQL's binary form of a float8[]."""


class _Raw(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


class _Int4ArrayDumper(_Raw):
    oid = 1007


class _Int8ArrayDumper(_Raw):
    oid = 1016


class _Float8ArrayDumper(_Raw):
    oid = 1022


def prepare_connection(connection: Connection) -> None:
    """Teaches a connection the binary arrays above."""
    connection.adapters.register_dumper(Int4Array, _Int4ArrayDumper)
    connection.adapters.register_dumper(Int8Array, _Int8ArrayDumper)
    connection.adapters.register_dumper(Float8Array, _Float8ArrayDumper)


def conninfo(database_url: str) -> str:
    """libpq's connection string for SQLAlchemy's URL."""
    url = make_url(database_url)
    parts = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
    }
    known = {key: str(value) for key, value in parts.items() if value is not None}
    return psycopg.conninfo.make_conninfo(
        "", **{**known, **{key: str(value) for key, value in url.query.items()}}
    )


class Pool:
    """At most `size` connections, the last used first. Make one per process; `close()` it at the end."""

    def __init__(self, database_url: str, size: int = 4) -> None:
        self._conninfo = conninfo(database_url)
        self._permits = asyncio.Semaphore(size)
        self._idle: list[tuple[float, Connection]] = []
        self._is_closed = False
        self._reaper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode: each statement is a transaction. Raises Unavailable, DiskFull."""
        if self._permits.locked():
            await self._wait_for_permit()
        else:
            await self._permits.acquire()
        try:
            connection = await self._take()
            try:
                yield connection
            except psycopg.errors.DiskFull as error:
                raise DiskFull("The database's disk is full; nothing was written.") from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                raise _unavailable(connection) from error
            finally:
                await self._put(connection)
        finally:
            self._permits.release()

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, is_atomic: bool = False) -> T:
        """`work` on a connection; in one transaction when `is_atomic`, else each of its statements is its own.

        Repeated where PostgreSQL resolved a deadlock at our cost. Raises Unavailable, DiskFull.
        """
        for attempt in range(_DEADLOCK_TRIES):
            try:
                async with self.connection() as connection:
                    if not is_atomic:
                        return await work(connection)
                    async with connection.transaction():
                        return await work(connection)
            except Unavailable as error:
                if attempt == _DEADLOCK_TRIES - 1 or not isinstance(error.__cause__, _RESOLVED_AT_OUR_COST):
                    raise
        raise AssertionError("unreachable")

    async def _wait_for_permit(self) -> None:
        try:
            await asyncio.wait_for(self._permits.acquire(), WAIT_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable("Tracking is busy; try again in a moment.", retry_after_s=1) from error

    async def _take(self) -> Connection:
        while self._idle:
            since, connection = self._idle.pop()
            if time.monotonic() - since < TRUSTED_S or await _answers(connection):
                return connection
            await connection.close()
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                options=f"-c timezone=utc -c statement_timeout={STATEMENT_TIMEOUT_S * 1000} -c plan_cache_mode=auto",
                application_name="nautilus-tracking",
            )
        except (psycopg.Error, OSError) as error:
            raise Unavailable(
                "The database does not answer; try again in a moment.", retry_after_s=1
            ) from error
        connection.prepare_threshold = 0
        prepare_connection(connection)
        return connection

    async def _put(self, connection: Connection) -> None:
        is_usable = (
            not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        )
        if self._is_closed or not is_usable:
            await connection.close()
            return
        self._idle.append((time.monotonic(), connection))
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap(), name="idle connections of tracking")

    async def _reap(self) -> None:
        """Closes what nobody has needed for a while, until nothing is left."""
        while self._idle:
            await asyncio.sleep(max(0.0, self._idle[0][0] + IDLE_S - time.monotonic()))
            while self._idle and self._idle[0][0] <= time.monotonic() - IDLE_S:
                await self._idle.pop(0)[1].close()
        self._reaper = None

    async def close(self) -> None:
        self._is_closed = True
        if self._reaper is not None:
            self._reaper.cancel()
        while self._idle:
            await self._idle.pop()[1].close()


_RESOLVED_AT_OUR_COST = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


async def _answers(connection: Connection) -> bool:
    """Whether a connection that lay idle survived a restart of the server."""
    try:
        await connection.execute("")
    except psycopg.Error:
        return False
    return True


def _unavailable(connection: Connection) -> Unavailable:
    reason = (
        "The database does not answer" if connection.closed else "The database could not finish this in time"
    )
    return Unavailable(f"{reason}; try again in a moment.", retry_after_s=1)
