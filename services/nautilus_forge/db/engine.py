"""Connections to Postgres and the unit of work: one session, committed once, at the edge."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from select import POLLIN, poll
from typing import Any

import orjson
from psycopg.pq import ConnStatus
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from nautilus_forge.settings import Settings

log = logging.getLogger(__name__)

AfterCommit = Callable[[], Awaitable[None]]
_AFTER_COMMIT = "forge_after_commit"


class Database:
    """The pool of one database. Made without connecting; safe to make before Postgres is up."""

    def __init__(self, settings: Settings) -> None:
        self.engine = create_async_engine(
            settings.database_url.get_secret_value(),
            pool_size=settings.pool_size,
            max_overflow=settings.pool_overflow,
            pool_use_lifo=True,
            hide_parameters=True,
            connect_args={"application_name": "nautilus-forge", "connect_timeout": 5},
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )
        event.listen(self.engine.sync_engine, "checkout", _refuse_ended)

    def session(self) -> AsyncSession:
        """A bare session that keeps loaded values over a commit; the caller commits and closes."""
        return AsyncSession(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def unit_of_work(self) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends well and rolls back when it raises.

        `await db.commit()` in the block commits what there is so far and gives the connection back; the session
        takes one again when it is next used. What `after_commit` registered runs after the last commit, in
        order; a failure there is logged only.
        """
        async with self.session() as db:
            yield db
            await db.commit()
            callbacks: list[AfterCommit] = db.info.pop(_AFTER_COMMIT, [])
        for callback in callbacks:
            try:
                await callback()
            except Exception:
                log.exception("work after a commit failed")

    async def close(self) -> None:
        await self.engine.dispose()


def _refuse_ended(_: object, record: Any, __: object) -> None:
    """A connection that the server has ended is replaced: nothing is to be read on one that is idle but its end.

    A look at the socket in place of the round trip of `pool_pre_ping`. Raises `DisconnectionError`.
    """
    pgconn = record.driver_connection.pgconn
    if pgconn.status == ConnStatus.OK:
        looking = poll()
        looking.register(pgconn.socket, POLLIN)
        if not looking.poll(0):
            return
    raise DisconnectionError


def after_commit(db: AsyncSession, callback: AfterCommit) -> None:
    """Run `callback` once the session's unit of work has committed; never when it rolls back."""
    info: dict[Any, Any] = db.info
    info.setdefault(_AFTER_COMMIT, []).append(callback)
