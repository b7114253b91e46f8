"""Looks at the queue for jobs whose notification nobody used, while requests are held: the poll behind the hint."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from sqlalchemy import text

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.wakeups import Queued

log = logging.getLogger(__name__)

_PENDING = text(
    """
    SELECT id, project_id, is_protected, tags FROM ci_jobs
    WHERE status = 'pending' AND NOT is_ack_awaited AND NOT is_external ORDER BY id LIMIT 1000
    """
)
_SHORTEST_S = 0.05
_LONGEST_AGAIN_S = 60.0


class Lookout:
    """A job that is offered in vain, because the database knows better who may take it, is offered less often."""

    def __init__(self, ci: CiHalf) -> None:
        self._ci = ci
        self._again: dict[int, tuple[float, float]] = {}

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            is_asked = False
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ci.look.wait(), self._ci.limits.backstop_s)
                is_asked = True
            self._ci.look.clear()
            if self._ci.board.has_idle:
                try:
                    await self._look(is_asked)
                except Exception as error:
                    log.warning("the queue could not be looked at: %s", error)
            await asyncio.sleep(_SHORTEST_S)

    async def _look(self, is_asked: bool) -> None:
        async with self._ci.forge.database.session() as db:
            rows = (await db.execute(_PENDING)).all()
        now = time.monotonic()
        self._again = {row.id: self._again.get(row.id, (0.0, 0.0)) for row in rows}
        due = [row for row in rows if is_asked or self._again[row.id][0] <= now]
        for row in due:
            wait_s = min(max(self._again[row.id][1] * 2, self._ci.limits.backstop_s), _LONGEST_AGAIN_S)
            self._again[row.id] = (now + wait_s, wait_s)
        self._ci.board.offer_again(
            Queued(row.id, row.project_id, row.is_protected, frozenset(row.tags)) for row in due
        )
