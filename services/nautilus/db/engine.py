"""The connection to PostgreSQL and the unit of work: one transaction, committed at the edge.

No network call (GitLab) happens inside a transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from nautilus.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10.0


class Database:
    """A pool of connections. Make one per process, `close()` it at the end; connects at first use."""

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        """`url` is SQLAlchemy's (`postgresql+psycopg://…`)."""
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=POOL_TIMEOUT_S,
            pool_recycle=1800,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": "-c timezone=utc"},
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A unit of work: commits when the block ends, rolls back when it raises.

        Raises DatabaseUnavailable where the server is away or the connection broke. A commit whose answer was
        lost may have happened: repeat only what is idempotent.
        """
        try:
            async with self._sessions.begin() as session:
                yield session
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for reading; nothing is committed. Raises DatabaseUnavailable."""
        try:
            async with self._sessions() as session:
                yield session
        except (DBAPIError, PoolTimeout, OSError) as error:
            raise _translated(error) from error

    async def schema_revision(self) -> str | None:
        """The Alembic revision of the schema; None for an empty database. Raises DatabaseUnavailable."""
        async with self.read() as session:
            if await session.scalar(text("select to_regclass('alembic_version')::text")) is None:
                return None
            revision: str | None = await session.scalar(text("select version_num from alembic_version"))
            return revision

    async def close(self) -> None:
        await self.engine.dispose()


def _translated(error: Exception) -> Exception:
    """DatabaseUnavailable for what a later try may mend, else the error itself."""
    if isinstance(error, DBAPIError) and not (
        error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    ):
        return error
    return DatabaseUnavailable("the database does not answer; try again in a moment", retry_after_s=1)
