"""What people do to jobs: cancel, retry, play, erase; and finding them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.artifacts.types import NOT_ERASED
from nautilus_forge.ci.model import When
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Job
from nautilus_forge.errors import NotFound
from nautilus_forge.jobs.errors import NotDoable, Unplayable
from nautilus_forge.jobs.transitions import cancel_locked, clone, enqueue_locked, lock_job, unskip
from nautilus_forge.pipelines.processing import dependents
from nautilus_forge.pipelines.progress import job_states, lock_pipeline, process
from nautilus_forge.pipelines.statuses import COMPLETED, RETRYABLE, Status

_FORGET_ARTIFACTS = text(
    "DELETE FROM ci_job_artifacts WHERE job_id = :id AND file_type <> ALL(CAST(:kept AS text[]))"
)
_HAS_ARTIFACTS = text("SELECT EXISTS (SELECT FROM ci_job_artifacts WHERE job_id = :id)")
_ERASE = text(
    """
    UPDATE ci_jobs SET erased_at = now(), erased_by_id = :user, artifacts_expire_at = NULL, updated_at = now()
    WHERE id = :id
    """
)
_SET_VARIABLE = text(
    """
    INSERT INTO ci_job_variables (job_id, key, value, source) VALUES (:job, :key, :value, 'play')
    ON CONFLICT (job_id, key) DO UPDATE SET value = excluded.value, source = 'play'
    """
)


async def find_job(db: AsyncSession, project_id: int, job_id: int) -> Job:
    """As the database has it now. Raises `NotFound`."""
    statement = select(Job).where(Job.id == job_id, Job.project_id == project_id, Job.is_external.is_(False))
    job = await db.scalar(statement.execution_options(populate_existing=True))
    if job is None:
        raise NotFound
    return job


async def cancel(db: AsyncSession, job: Job, *, is_forced: bool = False) -> None:
    """Cancels the job; one that is over stays as it is, without an error."""
    row = await lock_job(db, job.id)
    if row is not None:
        await cancel_locked(db, row, is_forced=is_forced)


async def retry(db: AsyncSession, job: Job, user_id: int | None) -> int:
    """A new try; the id of its row. Raises `NotDoable`.

    Source: GitLab app/services/ci/retry_job_service.rb.
    """
    await lock_pipeline(db, job.pipeline_id)
    await db.refresh(job)
    if job.is_retried or Status(job.status) not in RETRYABLE:
        raise NotDoable("Job is not retryable")
    new = await clone(db, job.id, user_id=user_id, enqueue_now=True)
    states = await job_states(db, job.pipeline_id)
    await unskip(db, [state.id for state in dependents(states, [job.name])])
    await process(db, job.pipeline_id)
    return new


async def play(
    ci: CiHalf, db: AsyncSession, job: Job, user_id: int | None, variables: Mapping[str, str]
) -> int:
    """Starts a manual or delayed job; one that has run already is run again. The id of the job that now runs.

    Raises `Unplayable`.
    """
    row = await lock_job(db, job.id)
    if row is not None and await _start(ci, db, row.id, row.status, variables):
        await enqueue_locked(db, row, user_id=user_id)
        return job.id
    await db.refresh(job)
    if When(job.when) is not When.MANUAL or job.is_retried or Status(job.status) not in RETRYABLE:
        raise Unplayable
    new = await retry(db, job, user_id)
    await _store_variables(ci, db, new, variables)
    return new


async def _start(
    ci: CiHalf, db: AsyncSession, job_id: int, status: str, variables: Mapping[str, str]
) -> bool:
    if Status(status) not in (Status.MANUAL, Status.SCHEDULED):
        return False
    await _store_variables(ci, db, job_id, variables)
    return True


async def _store_variables(ci: CiHalf, db: AsyncSession, job_id: int, variables: Mapping[str, str]) -> None:
    for key, value in variables.items():
        await db.execute(_SET_VARIABLE, {"job": job_id, "key": key, "value": ci.cipher.encrypt(value)})


async def erase(ci: CiHalf, db: AsyncSession, job: Job, user_id: int | None) -> None:
    """Deletes log and artifacts of a job that is over. Raises `NotDoable`, also where there are none."""
    has_any = ci.traces.size(job.id) > 0 or await db.scalar(_HAS_ARTIFACTS, {"id": job.id})
    if Status(job.status) not in COMPLETED or not has_any:
        raise NotDoable("Job is not erasable!")
    await db.execute(_FORGET_ARTIFACTS, {"id": job.id, "kept": []})
    await db.execute(_ERASE, {"id": job.id, "user": user_id})

    async def remove_log() -> None:
        ci.traces.remove(job.id)

    after_commit(db, remove_log)


async def delete_artifacts(db: AsyncSession, job: Job) -> None:
    await db.execute(_FORGET_ARTIFACTS, {"id": job.id, "kept": sorted(NOT_ERASED)})


async def keep_artifacts(db: AsyncSession, job: Job) -> None:
    """They no longer expire. Raises `NotFound` where there are none."""
    kept = await db.execute(
        text("UPDATE ci_job_artifacts SET expire_at = NULL WHERE job_id = :id RETURNING id"), {"id": job.id}
    )
    if kept.first() is None:
        raise NotFound
    await db.execute(text("UPDATE ci_jobs SET artifacts_expire_at = NULL WHERE id = :id"), {"id": job.id})
