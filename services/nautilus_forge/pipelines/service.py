"""What people do to pipelines: cancel, retry, delete; and finding them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import Pipeline, Project
from nautilus_forge.errors import NotFound
from nautilus_forge.jobs.transitions import cancel_all, clone, unskip
from nautilus_forge.jobs.wakeups import JobChanged, tell
from nautilus_forge.pipelines.entities import OfJobs, pipeline_basic
from nautilus_forge.pipelines.progress import lock_pipeline, process

_RETRYABLE = text(
    """
    SELECT id FROM ci_jobs WHERE pipeline_id = :pipeline AND NOT is_retried AND NOT is_external
      AND status IN ('failed', 'canceled') ORDER BY stage_idx, id
    """
)
_SKIPPED = text(
    "SELECT id FROM ci_jobs WHERE pipeline_id = :pipeline AND NOT is_retried AND status = 'skipped' AND NOT is_external"
)
_ON_RUNNER = text(
    """
    SELECT id FROM ci_jobs WHERE pipeline_id = :pipeline
      AND (status IN ('running', 'canceling') OR is_ack_awaited)
    """
)
_DELETE = text("DELETE FROM ci_pipelines WHERE id = :pipeline")
_OF_JOBS = text(
    """
    SELECT coalesce(bool_or(allow_failure AND status IN ('failed', 'canceled')), false), avg(coverage)
    FROM ci_jobs WHERE pipeline_id = :pipeline AND NOT is_retried
    """
)


async def find_pipeline(db: AsyncSession, project_id: int, pipeline_id: int) -> Pipeline:
    """As the database has it now. Raises `NotFound`."""
    statement = select(Pipeline).where(Pipeline.id == pipeline_id, Pipeline.project_id == project_id)
    found = await db.scalar(statement.execution_options(populate_existing=True))
    if found is None:
        raise NotFound
    return found


async def last_pipeline(ci: CiHalf, db: AsyncSession, project_id: int, sha: str) -> dict[str, Any] | None:
    """Implements `ports.LastPipeline`."""
    statement = (
        select(Pipeline)
        .where(Pipeline.project_id == project_id, Pipeline.sha == sha)
        .order_by(Pipeline.id.desc())
        .limit(1)
    )
    pipeline = await db.scalar(statement)
    if pipeline is None:
        return None
    return pipeline_basic(ci.forge.settings, await db.get_one(Project, project_id), pipeline)


async def of_jobs(db: AsyncSession, pipeline_id: int) -> OfJobs:
    has_warnings, coverage = (await db.execute(_OF_JOBS, {"pipeline": pipeline_id})).one()
    return OfJobs(has_warnings, float(coverage) if coverage is not None else None)


async def cancel_pipeline(db: AsyncSession, pipeline: Pipeline) -> None:
    """Cancels what can be cancelled; a pipeline that is over stays as it is, without an error."""
    await lock_pipeline(db, pipeline.id)
    await cancel_all(db, pipeline.id)


async def retry_pipeline(db: AsyncSession, pipeline: Pipeline, user_id: int | None) -> None:
    """New tries of what failed or was cancelled; what was skipped gets another chance.

    Source: GitLab app/services/ci/retry_pipeline_service.rb.
    """
    await lock_pipeline(db, pipeline.id)
    for job in (await db.execute(_RETRYABLE, {"pipeline": pipeline.id})).scalars().all():
        await clone(db, job, user_id=user_id, enqueue_now=False)
    skipped = (await db.execute(_SKIPPED, {"pipeline": pipeline.id})).scalars().all()
    await unskip(db, skipped)
    await process(db, pipeline.id)


async def delete_pipeline(ci: CiHalf, db: AsyncSession, pipeline: Pipeline) -> None:
    """With its jobs, logs and artifacts; runners that work for it are told to stop by their next 403."""
    pipeline_id, project_id = pipeline.id, pipeline.project_id
    await lock_pipeline(db, pipeline_id)
    for job in (await db.execute(_ON_RUNNER, {"pipeline": pipeline_id})).scalars().all():
        await tell(db, JobChanged(job))
    await db.execute(_DELETE, {"pipeline": pipeline_id})

    async def delete_ref() -> None:
        git = ci.forge.repositories.git(project_id)
        await git.run("update-ref", "-d", f"refs/pipelines/{pipeline_id}")

    after_commit(db, delete_ref)
