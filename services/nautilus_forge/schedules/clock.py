"""Makes the pipelines of schedules that are due, each once.

A due schedule's row is locked, moved on to its next time, and its pipeline made, all in one transaction: a crash
leaves either both or neither. After a downtime a schedule runs once, however often it would have run.
Nothing is polled while no schedule is near: the clock sleeps until the next one is due, at most half a minute
(times are the database's, and another process may have changed them).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import PipelineSchedule, Project, User
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Level
from nautilus_forge.projects.access import level_of
from nautilus_forge.schedules import service
from nautilus_forge.schedules.cron import InvalidCron, next_run

log = logging.getLogger(__name__)

_DUE = text(
    "SELECT id FROM ci_pipeline_schedules WHERE is_active AND next_run_at <= now() ORDER BY next_run_at LIMIT 100"
)
_WAIT = text(
    """
    SELECT extract(epoch FROM min(next_run_at) - now())::float FROM ci_pipeline_schedules
    WHERE is_active AND next_run_at IS NOT NULL
    """
)
_LONGEST_S = 30.0
_SHORTEST_S = 0.05


@dataclass
class Clock:
    """`is_mine`: whether this process is the one that does the work."""

    ci: CiHalf
    is_mine: Callable[[], bool]

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            self.ci.schedules_changed.clear()
            wait_s = _LONGEST_S
            try:
                if self.is_mine():
                    await self.run_due()
                    wait_s = await self._wait_s()
                else:
                    wait_s = 1.0
            except Exception as error:
                log.warning("schedules could not be looked at: %s", error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ci.schedules_changed.wait(), wait_s)

    async def _wait_s(self) -> float:
        async with self.ci.forge.database.session() as db:
            left = await db.scalar(_WAIT)
        return _LONGEST_S if left is None else min(max(left, _SHORTEST_S), _LONGEST_S)

    async def run_due(self) -> None:
        """One pass over what is due now."""
        async with self.ci.forge.database.session() as db:
            due = (await db.execute(_DUE)).scalars().all()
        for schedule_id in due:
            try:
                await self._run_one(schedule_id)
            except Exception:
                log.exception("the pipeline of schedule %s could not be made", schedule_id)
                async with self.ci.forge.database.unit_of_work() as db:
                    await self._move_on(db, schedule_id)

    async def _run_one(self, schedule_id: int) -> None:
        async with self.ci.forge.database.unit_of_work() as db:
            await self._run(db, schedule_id)

    async def _run(self, db: AsyncSession, schedule_id: int) -> None:
        schedule = await self._move_on(db, schedule_id)
        if schedule is None:
            return
        project = await db.get(Project, schedule.project_id)
        owner = await db.get(User, schedule.owner_id) if schedule.owner_id is not None else None
        if project is None or project.deleted_at is not None or project.is_archived:
            return
        level = await level_of(db, owner, project)
        if owner is None or owner.state != "active" or level < Level.DEVELOPER:
            schedule.is_active = False
            log.warning("schedule %s is switched off: its owner may not run pipelines", schedule_id)
            return
        try:
            pipeline = await service.make_pipeline(self.ci, db, schedule, project, owner, level)
        except Refused as refused:
            log.warning("schedule %s made no pipeline: %s", schedule_id, refused)
        else:
            log.info("schedule %s made pipeline %s", schedule_id, pipeline.id)

    async def _move_on(self, db: AsyncSession, schedule_id: int) -> PipelineSchedule | None:
        """The locked schedule, with its next time; None where it is not due (any more), or somebody else has it."""
        statement = select(PipelineSchedule).where(
            PipelineSchedule.id == schedule_id,
            PipelineSchedule.is_active,
            PipelineSchedule.next_run_at <= text("now()"),
        )
        schedule = await db.scalar(statement.with_for_update(skip_locked=True))
        if schedule is None:
            return None
        now = await db.scalar(text("SELECT now()"))
        try:
            schedule.next_run_at = next_run(schedule.cron, schedule.cron_timezone, now)
        except InvalidCron:
            schedule.is_active = False
        await db.flush()
        return schedule
