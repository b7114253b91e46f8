"""Changes of one job's status, each under its pipeline's lock and each followed by the pipeline's progress.

`finish`, `cancel`, `requeue`… take the locks themselves and work inside the caller's transaction. They give
False where the job is no longer in a status from which the change may be made: somebody was faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import Retry
from nautilus_forge.jobs.failures import MAX_HANDED_BACK, may_retry, pause_after_hand_back_s, pause_s_before
from nautilus_forge.jobs.wakeups import JobChanged, tell
from nautilus_forge.pipelines import progress
from nautilus_forge.pipelines.statuses import CANCELABLE, ON_RUNNER, Status, may_become

_FIND = text("SELECT pipeline_id FROM ci_jobs WHERE id = :id")
_LOCK = text(
    """
    SELECT id, pipeline_id, project_id, name, status, allow_failure, definition->'retry' AS retry,
           definition->'allow_failure_exit_codes' AS lenient_codes, auto_retries, handed_back, runner_features,
           token_digest, lease_expires_at, is_ack_awaited, runner_id, runner_manager_id,
           definition ? 'environment' AS has_environment,
           (SELECT auto_cancel->>'on_job_failure' = 'all' FROM ci_pipelines p WHERE p.id = pipeline_id)
               AS cancels_rest
    FROM ci_jobs WHERE id = :id FOR UPDATE
    """
)
_END = text(
    """
    UPDATE ci_jobs SET status = CAST(:status AS varchar), finished_at = now(), updated_at = now(), is_processed = false,
        failure_reason = CAST(:reason AS varchar), exit_code = CAST(:exit_code AS integer),
        allow_failure = :allow_failure,
        lease_expires_at = NULL, is_ack_awaited = false
    WHERE id = :id
    """
)
_CLONE = text(
    """
    INSERT INTO ci_jobs (pipeline_id, project_id, user_id, name, stage, stage_idx, status, when_, allow_failure,
        definition, needs, tags, is_protected, enqueue_now, auto_retries, handed_back, scheduled_at)
    SELECT pipeline_id, project_id, coalesce(CAST(:user AS bigint), user_id), name, stage, stage_idx,
        CASE WHEN :delay_s > 0 THEN 'scheduled' ELSE 'created' END, when_,
        coalesce((definition->>'allow_failure')::boolean, false), definition, needs, tags,
        is_protected, :enqueue_now, :auto_retries, :handed_back,
        CASE WHEN :delay_s > 0 THEN now() + make_interval(secs => :delay_s) END
    FROM ci_jobs WHERE id = :id
    RETURNING id, definition ? 'environment' AS has_environment
    """
)
_COPY_VARIABLES = text(
    """
    INSERT INTO ci_job_variables (job_id, key, value, source)
    SELECT CAST(:new AS bigint), key, value, source FROM ci_job_variables WHERE job_id = :old AND source = 'play'
    """
)
_DEPLOY_AGAIN = text(
    """
    WITH old AS (SELECT * FROM deployments WHERE job_id = :old),
    counted AS (
        UPDATE ci_projects c SET last_deployment_iid = last_deployment_iid + 1 FROM old
        WHERE c.project_id = old.project_id RETURNING c.last_deployment_iid AS iid
    )
    INSERT INTO deployments (iid, project_id, environment_id, job_id, user_id, ref, is_tag, sha, status, on_stop)
    SELECT counted.iid, project_id, environment_id, :new, coalesce(CAST(:user AS bigint), user_id), ref, is_tag, sha,
        'created', on_stop
    FROM old, counted
    """
)
_SET_RETRIED = text(
    "UPDATE ci_jobs SET is_retried = true, is_processed = true, updated_at = now() WHERE id = :id"
)
_UNSKIP = text(
    """
    UPDATE ci_jobs SET status = 'created', finished_at = NULL, is_processed = false, updated_at = now()
    WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'skipped'
    """
)
REQUEUE = text(
    """
    UPDATE ci_jobs SET status = 'pending', runner_id = NULL, runner_manager_id = NULL, runner_features = '{}',
        token_digest = NULL, lease_expires_at = NULL, is_ack_awaited = false, started_at = NULL,
        last_contact_at = NULL, timeout_s = NULL, is_processed = false, updated_at = now()
    WHERE id = ANY(CAST(:ids AS bigint[]))
    """
)
"""Takes the jobs `ids` from their runners: they wait for another as if nobody had had them."""
_CANCELING = text(
    """
    UPDATE ci_jobs SET status = 'canceling', canceling_at = now(), updated_at = now(), is_processed = false,
        lease_expires_at = NULL
    WHERE id = :id
    """
)
_ENQUEUE = text(
    """
    UPDATE ci_jobs SET enqueue_now = true, status = 'pending', queued_at = now(), scheduled_at = NULL,
        user_id = coalesce(CAST(:user AS bigint), user_id), updated_at = now(), is_processed = false
    WHERE id = :id
    """
)


_CANCEL_WAITING = text(
    """
    UPDATE ci_jobs SET status = 'canceled', finished_at = now(), updated_at = now(), is_processed = false,
        lease_expires_at = NULL, is_ack_awaited = false
    WHERE pipeline_id = :pipeline AND NOT is_retried
      AND status IN ('created', 'waiting_for_resource', 'preparing', 'pending', 'scheduled', 'manual')
      AND (NOT :only_interruptible OR coalesce((definition->>'interruptible')::boolean, false))
    RETURNING id, runner_id
    """
)
_CANCEL_RUNNING = text(
    """
    UPDATE ci_jobs SET
        status = CASE WHEN runner_features->>'cancel_gracefully' = 'true' THEN 'canceling' ELSE 'canceled' END,
        finished_at = CASE WHEN runner_features->>'cancel_gracefully' = 'true' THEN NULL ELSE now() END,
        canceling_at = now(), updated_at = now(), is_processed = false, lease_expires_at = NULL
    WHERE pipeline_id = :pipeline AND NOT is_retried AND status = 'running'
      AND (NOT :only_interruptible OR coalesce((definition->>'interruptible')::boolean, false))
    RETURNING id, runner_id
    """
)


async def lock_job(db: AsyncSession, job_id: int) -> Row[Any] | None:
    """Locks the job's pipeline, then the job; None where it is gone."""
    pipeline = await db.scalar(_FIND, {"id": job_id})
    if pipeline is None or not await progress.lock_pipeline(db, pipeline):
        return None
    return (await db.execute(_LOCK, {"id": job_id})).first()


async def finish(
    db: AsyncSession, job_id: int, status: Status, *, reason: str | None = None, exit_code: int | None = None
) -> bool:
    """Ends a job: SUCCESS, FAILED (with a reason) or CANCELED. A job that is canceling becomes CANCELED."""
    job = await lock_job(db, job_id)
    if job is None:
        return False
    return await finish_locked(db, job, status, reason=reason, exit_code=exit_code)


async def finish_locked(
    db: AsyncSession,
    job: Row[Any],
    status: Status,
    *,
    reason: str | None = None,
    exit_code: int | None = None,
    is_handed_back: bool = False,
) -> bool:
    """As `finish`, for a row of `lock_job`. `is_handed_back`: the runner gives the job back, to be run again."""
    old = Status(job.status)
    if old is Status.CANCELING:
        status = Status.CANCELED
    if not may_become(old, status):
        return False
    is_lenient = job.allow_failure or (
        status is Status.FAILED and exit_code is not None and exit_code in (job.lenient_codes or ())
    )
    await db.execute(
        _END,
        {
            "id": job.id,
            "status": status.value,
            "reason": reason if status is not Status.SUCCESS else None,
            "exit_code": exit_code,
            "allow_failure": is_lenient,
        },
    )
    if old in ON_RUNNER or job.is_ack_awaited:
        await tell(db, JobChanged(job.id))
    if status is Status.FAILED and await _tries_again(db, job, reason or "", exit_code, is_handed_back):
        pass
    elif status is Status.FAILED and not is_lenient and job.cancels_rest:
        await cancel_all(db, job.pipeline_id)
    await progress.process(db, job.pipeline_id)
    return True


async def _tries_again(
    db: AsyncSession, job: Row[Any], reason: str, exit_code: int | None, is_handed_back: bool
) -> bool:
    """Makes the next try of a job that failed, where there is to be one: now, or after a pause."""
    if is_handed_back and job.handed_back < MAX_HANDED_BACK:
        pause_s, tries, given = (
            pause_after_hand_back_s(job.handed_back),
            job.auto_retries,
            job.handed_back + 1,
        )
    elif may_retry(_retry(job), reason, exit_code, job.auto_retries):
        pause_s, tries, given = (
            pause_s_before(reason, job.auto_retries),
            job.auto_retries + 1,
            job.handed_back,
        )
    else:
        return False
    await clone(db, job.id, auto_retries=tries, handed_back=given, delay_s=pause_s, enqueue_now=True)
    return True


def _retry(job: Row[Any]) -> Retry:
    data = job.retry or {}
    return Retry(data.get("max", 0), tuple(data.get("when", ())), tuple(data.get("exit_codes", ())))


async def clone(
    db: AsyncSession,
    job_id: int,
    *,
    user_id: int | None = None,
    enqueue_now: bool,
    auto_retries: int = 0,
    handed_back: int = 0,
    delay_s: float = 0.0,
) -> int:
    """A new try of the job, `created`, or with a delay `scheduled`; the old one is marked as retried. Under the
    pipeline's lock."""
    values = {
        "id": job_id,
        "user": user_id,
        "enqueue_now": enqueue_now,
        "auto_retries": auto_retries,
        "handed_back": handed_back,
        "delay_s": delay_s,
    }
    new = (await db.execute(_CLONE, values)).one()
    await db.execute(_COPY_VARIABLES, {"old": job_id, "new": new.id})
    if new.has_environment:
        await db.execute(_DEPLOY_AGAIN, {"old": job_id, "new": new.id, "user": user_id})
    await db.execute(_SET_RETRIED, {"id": job_id})
    return int(new.id)


async def unskip(db: AsyncSession, job_ids: Sequence[int]) -> None:
    """Skipped jobs get another chance. Under the pipeline's lock."""
    await db.execute(_UNSKIP, {"ids": list(job_ids)})


async def cancel_locked(db: AsyncSession, job: Row[Any], *, is_forced: bool = False) -> bool:
    """Cancels a job of `lock_job`. A runner that can end a job gracefully gets the time for it (CANCELING)."""
    status = Status(job.status)
    if status is Status.CANCELING:
        return is_forced and await finish_locked(db, job, Status.CANCELED)
    if status not in CANCELABLE:
        return False
    if status is Status.RUNNING and job.runner_features.get("cancel_gracefully") and not is_forced:
        await db.execute(_CANCELING, {"id": job.id})
        await tell(db, JobChanged(job.id))
        await progress.process(db, job.pipeline_id)
        return True
    if status is Status.MANUAL or status is Status.SCHEDULED or may_become(status, Status.CANCELED):
        return await finish_locked(db, job, Status.CANCELED)
    return False


async def cancel_all(db: AsyncSession, pipeline_id: int, *, only_interruptible: bool = False) -> list[int]:
    """Cancels whatever of a pipeline can be cancelled, under its lock; ids of the jobs that were."""
    values = {"pipeline": pipeline_id, "only_interruptible": only_interruptible}
    waiting = (await db.execute(_CANCEL_WAITING, values)).all()
    running = (await db.execute(_CANCEL_RUNNING, values)).all()
    for row in (*waiting, *running):
        if row.runner_id is not None:
            await tell(db, JobChanged(row.id))
    await progress.process(db, pipeline_id)
    return [row.id for row in (*waiting, *running)]


async def requeue(db: AsyncSession, job_id: int) -> bool:
    """Takes a job whose lease has run out from its runner and offers it again; its token is worth nothing now."""
    job = await lock_job(db, job_id)
    if job is None or job.lease_expires_at is None:
        return False
    if not await db.scalar(text("SELECT :at < now()"), {"at": job.lease_expires_at}):
        return False
    await db.execute(REQUEUE, {"ids": [job.id]})
    await tell(db, JobChanged(job.id))
    await progress.tell_queued(db, job.id)
    await progress.process(db, job.pipeline_id)
    return True


async def enqueue_locked(db: AsyncSession, job: Row[Any], *, user_id: int | None = None) -> bool:
    """Starts a manual or delayed job now."""
    if Status(job.status) not in (Status.MANUAL, Status.SCHEDULED):
        return False
    await db.execute(_ENQUEUE, {"id": job.id, "user": user_id})
    await progress.tell_queued(db, job.id)
    await progress.process(db, job.pipeline_id)
    return True


__all__ = [
    "REQUEUE",
    "cancel_all",
    "cancel_locked",
    "clone",
    "enqueue_locked",
    "finish",
    "finish_locked",
    "lock_job",
    "requeue",
    "unskip",
]
