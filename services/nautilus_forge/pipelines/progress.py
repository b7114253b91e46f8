"""Lets a pipeline take note of its jobs: moves those whose turn has come, and sets the pipeline's own status.

Every change of a job's status but a claim happens under its pipeline's row lock, taken first. A claim takes
the job's lock alone, never waits for another, and leaves `is_processed` False behind; so nothing deadlocks, and
what a crash leaves unprocessed the upkeep finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import When
from nautilus_forge.jobs.wakeups import MergeDue, Queued, tell
from nautilus_forge.pipelines.processing import JobState, advance
from nautilus_forge.pipelines.statuses import COMPLETED, Status

_LOCK = text("SELECT id FROM ci_pipelines WHERE id = :id FOR NO KEY UPDATE")
_STATES = text(
    """
    SELECT id, name, stage_idx, status, when_, allow_failure, needs, enqueue_now, project_id, is_protected, tags
    FROM ci_jobs WHERE pipeline_id = :pipeline AND NOT is_retried ORDER BY stage_idx, id
    """
)
_CHANGE = text(
    """
    UPDATE ci_jobs SET status = CAST(:status AS varchar), updated_at = now(),
        is_processed = is_processed AND CAST(:status AS varchar) <> 'skipped',
        queued_at = CASE WHEN CAST(:status AS varchar) = 'pending' THEN now() ELSE queued_at END,
        scheduled_at = CASE WHEN CAST(:status AS varchar) = 'scheduled'
            THEN now() + make_interval(secs => coalesce((definition->>'start_in_s')::float, 0)) ELSE scheduled_at END
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'created'
    RETURNING id
    """
)
_NOTED = text(
    """
    WITH noted AS (
        UPDATE ci_jobs SET is_processed = true WHERE pipeline_id = :pipeline AND NOT is_processed
        RETURNING id, CASE
            WHEN status IN ('success', 'failed', 'canceled', 'skipped') THEN status
            WHEN status IN ('running', 'canceling') THEN 'running' ELSE 'created' END AS status
    )
    UPDATE deployments d SET status = noted.status, updated_at = now(),
        finished_at = CASE WHEN noted.status IN ('success', 'failed', 'canceled') THEN now() END
    FROM noted WHERE d.job_id = noted.id AND d.status <> noted.status
    """
)
"""Deployments are as their jobs are."""
_SET_PIPELINE = text(
    """
    UPDATE ci_pipelines SET status = CAST(:status AS varchar), updated_at = now(),
        started_at = CASE WHEN CAST(:is_started AS boolean) THEN coalesce(started_at, now()) ELSE started_at END,
        finished_at = CASE WHEN CAST(:is_over AS boolean) THEN now() END
    WHERE id = :pipeline AND status <> CAST(:status AS varchar)
    """
)


_WAITING_FOR = text(
    """
    SELECT m.id FROM merge_requests m JOIN ci_pipelines pl ON pl.id = :pipeline
    WHERE m.auto_merge IS NOT NULL AND m.state = 'opened' AND m.sha = pl.sha
    """
)


async def lock_pipeline(db: AsyncSession, pipeline_id: int) -> bool:
    """Takes the pipeline's row lock; False where the pipeline is gone."""
    return (await db.execute(_LOCK, {"id": pipeline_id})).first() is not None


async def job_states(db: AsyncSession, pipeline_id: int) -> list[JobState]:
    """The pipeline's jobs, without retried ones."""
    return [_state(row) for row in await db.execute(_STATES, {"pipeline": pipeline_id})]


async def process(db: AsyncSession, pipeline_id: int) -> Status:
    """Under the pipeline's lock: see the module. Jobs that became pending are told to the waiting runners."""
    rows = (await db.execute(_STATES, {"pipeline": pipeline_id})).all()
    progress = advance([_state(row) for row in rows])
    by_id = {row.id: row for row in rows}
    for status in dict.fromkeys(progress.changes.values()):
        ids = [job for job, new in progress.changes.items() if new is status]
        changed = (await db.execute(_CHANGE, {"status": status.value, "ids": ids})).scalars().all()
        if status is Status.PENDING:
            await _tell_queued(db, [by_id[job] for job in changed])
    await db.execute(_NOTED, {"pipeline": pipeline_id})
    await _set_status(db, pipeline_id, progress.status)
    return progress.status


async def _set_status(db: AsyncSession, pipeline_id: int, status: Status) -> None:
    await db.execute(
        _SET_PIPELINE,
        {
            "pipeline": pipeline_id,
            "status": status.value,
            "is_started": status in (Status.RUNNING, Status.SUCCESS, Status.FAILED),
            "is_over": status in COMPLETED,
        },
    )
    if status in COMPLETED:
        for merge_request in (await db.execute(_WAITING_FOR, {"pipeline": pipeline_id})).scalars().all():
            await tell(db, MergeDue(merge_request))


async def _tell_queued(db: AsyncSession, rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        await tell(db, Queued(row.id, row.project_id, row.is_protected, frozenset(row.tags)))


async def tell_queued(db: AsyncSession, job_id: int) -> None:
    """Tells the waiting runners of a job that this transaction made pending."""
    found = await db.execute(
        text("SELECT id, project_id, is_protected, tags FROM ci_jobs WHERE id = :id"), {"id": job_id}
    )
    await _tell_queued(db, found.all())


def _state(row: Row[Any]) -> JobState:
    return JobState(
        id=row.id,
        name=row.name,
        stage_idx=row.stage_idx,
        status=Status(row.status),
        when=When(row.when_),
        allow_failure=row.allow_failure,
        needs=tuple(row.needs) if row.needs is not None else None,
        enqueue_now=row.enqueue_now,
    )
