"""News between transactions: what happened to queues, jobs and runners, over LISTEN/NOTIFY.

News is a hint and may be lost: everything that waits for it also looks for itself from time to time.
One connection per process listens, and holds the advisory lock of the one process that does the upkeep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.settings import Settings

log = logging.getLogger(__name__)

CHANNEL = "forge_ci"
UPKEEP_LOCK = 0x4E41_5554_4349
_MAX_TAGS_BYTES = 6000
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_CHECK_EVERY_S = 15.0


@dataclass(frozen=True)
class Queued:
    """A job became pending. `tags` None: too many to be told."""

    job_id: int
    project_id: int
    is_protected: bool
    tags: frozenset[str] | None


@dataclass(frozen=True)
class JobChanged:
    """A job's status changed while it belonged to a runner."""

    job_id: int


@dataclass(frozen=True)
class RunnerChanged:
    """A runner was edited or deleted."""

    runner_id: int


@dataclass(frozen=True)
class MergeDue:
    """The pipeline that a merge request waited for is over."""

    merge_request_id: int


@dataclass(frozen=True)
class HooksDue:
    """Something happened that webhooks want to hear of; told by the database itself."""


News = Queued | JobChanged | RunnerChanged | MergeDue | HooksDue


async def tell(db: AsyncSession, news: News) -> None:
    """Told to all processes when the session's transaction commits."""
    await db.execute(
        text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": _encode(news)}
    )


def _encode(news: News) -> str:
    match news:
        case Queued():
            tags = sorted(news.tags or ())
            told = tags if news.tags is not None and sum(map(len, tags)) < _MAX_TAGS_BYTES else None
            return orjson.dumps(["queued", news.job_id, news.project_id, news.is_protected, told]).decode()
        case JobChanged():
            return orjson.dumps(["job", news.job_id]).decode()
        case RunnerChanged():
            return orjson.dumps(["runner", news.runner_id]).decode()
        case MergeDue():
            return orjson.dumps(["merge", news.merge_request_id]).decode()
        case HooksDue():
            return orjson.dumps(["hooks"]).decode()


def _decode(payload: str) -> News | None:
    """None for news that this version does not know."""
    match orjson.loads(payload):
        case ["queued", int(job), int(project), bool(protected), tags]:
            return Queued(job, project, protected, frozenset(tags) if tags is not None else None)
        case ["job", int(job)]:
            return JobChanged(job)
        case ["runner", int(runner)]:
            return RunnerChanged(runner)
        case ["merge", int(merge_request)]:
            return MergeDue(merge_request)
        case ["hooks"]:
            return HooksDue()
    return None


@dataclass
class Listener:
    """Hands news to `on_news`. `on_gap` runs after each (re)connection: news may have been missed before it."""

    settings: Settings
    on_news: Callable[[News], None]
    on_gap: Callable[[], None]
    has_upkeep_lock: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Listens until cancelled; reconnects with back-off."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                async with await self._connect() as connection:
                    wait_s = _FIRST_WAIT_S
                    await self._listen(connection)
            except (psycopg.Error, OSError) as error:
                log.warning("not listening for news: %s", error)
            finally:
                self.has_upkeep_lock = False
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object, ...]]:
        url = make_url(self.settings.database_url.get_secret_value()).set(drivername="postgresql")
        conninfo = make_conninfo(
            url.render_as_string(hide_password=False),
            application_name="nautilus-forge-news",
            connect_timeout=5,
        )
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)

    async def _listen(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        self.on_gap()
        while True:
            if not self.has_upkeep_lock:
                cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (UPKEEP_LOCK,))
                row = await cursor.fetchone()
                self.has_upkeep_lock = row is not None and row[0] is True
            else:
                await connection.execute("SELECT 1")
            async for notification in connection.notifies(timeout=_CHECK_EVERY_S):
                with suppress(orjson.JSONDecodeError):
                    news = _decode(notification.payload)
                    if news is not None:
                        self.on_news(news)
