"""A runner's proof that a job is his: the job's token.

Source: GitLab lib/api/ci/helpers/runner.rb (`authenticate_job!`): never 404, and `Job-Status` where the job is over.
"""

from __future__ import annotations

import hmac
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.errors import JobForbidden
from nautilus_forge.pipelines.statuses import ON_RUNNER, Status
from nautilus_forge.ports import JobIdentity
from nautilus_forge.tokens import secret
from nautilus_forge.traces.live import LiveJob
from nautilus_forge.traces.mask import Mask
from nautilus_forge.variables.assemble import masked_values

TOKEN_PREFIX = "glcbt-"  # noqa: S105 — a prefix

_JOB = text(
    """
    SELECT j.id, j.pipeline_id, j.project_id, j.user_id, j.status, j.token_digest, j.runner_id,
           j.runner_manager_id, j.runner_features, j.trace_is_masked, j.trace_resets, j.erased_at,
           j.is_ack_awaited, j.lease_expires_at, j.definition->>'coverage' AS coverage,
           p.deleted_at AS project_deleted_at
    FROM ci_jobs j JOIN projects p ON p.id = j.project_id WHERE j.id = :id
    """
)
_CONFIRM = text(
    """
    UPDATE ci_jobs SET lease_expires_at = NULL, last_contact_at = now()
    WHERE id = :id AND token_digest = :digest AND status IN ('running', 'canceling')
    RETURNING id
    """
)
_BY_TOKEN = text(
    """
    SELECT j.id, j.project_id, j.user_id FROM ci_jobs j
    WHERE j.token_digest = :digest AND j.status IN ('running', 'canceling') AND j.user_id IS NOT NULL
    """
)


async def find_job(db: AsyncSession, job_id: int, token: str) -> Row[Any]:
    """The job that the token belongs to, in whatever status. Raises `JobForbidden`."""
    job = (await db.execute(_JOB, {"id": job_id})).first()
    if job is None or job.token_digest is None or not secret.matches(token, job.token_digest):
        raise JobForbidden
    if job.project_deleted_at is not None:
        raise JobForbidden("Project has been deleted!")
    if job.erased_at is not None:
        raise JobForbidden("Job has been erased!")
    return job


def require_on_runner(job: Row[Any]) -> None:
    """Raises `JobForbidden` unless a runner may still write to the job."""
    if Status(job.status) not in ON_RUNNER:
        raise JobForbidden("Job is not processing on runner", job.status)


async def confirm(db: AsyncSession, job: Row[Any]) -> None:
    """The runner's first write makes its claim sure. Raises `JobForbidden` where the lease was ended just now."""
    if job.lease_expires_at is None:
        return
    if (await db.execute(_CONFIRM, {"id": job.id, "digest": job.token_digest})).first() is None:
        raise JobForbidden("Job is not processing on runner", Status.PENDING.value)


async def live_job(ci: CiHalf, job_id: int, token: str) -> LiveJob:
    """The job, from memory while that is fresh. Raises `JobForbidden`."""
    known = ci.live.get(job_id)
    if known is None:
        return await _read(ci, job_id, token)
    if not hmac.compare_digest(known.token.encode(), token.encode()):
        raise JobForbidden
    return known


async def _read(ci: CiHalf, job_id: int, token: str) -> LiveJob:
    async with ci.forge.database.unit_of_work() as db:
        job = await find_job(db, job_id, token)
        require_on_runner(job)
        await confirm(db, job)
        mask = ci.live.mask_of(job_id, token) or await mask_for(ci, db, job.project_id, token)
    live = LiveJob(
        id=job.id,
        pipeline_id=job.pipeline_id,
        project_id=job.project_id,
        token=token,
        status=Status(job.status),
        mask=mask,
        runner_id=job.runner_id,
        runner_manager_id=job.runner_manager_id,
        features=job.runner_features,
        is_masked=job.trace_is_masked,
        may_reset=job.trace_resets > 0,
        coverage=job.coverage,
    )
    ci.live.put(live)
    return live


async def mask_for(ci: CiHalf, db: AsyncSession, project_id: int, token: str | None) -> Mask:
    """What must not be shown in a job's log: its token, and every masked variable that it could have got."""
    stored = await masked_values(db, ci.cipher, project_id)
    values = [line for value in stored for line in value.splitlines()]
    return Mask([*values, token] if token else values)


async def resolve_job_token(db: AsyncSession, token: str) -> JobIdentity | None:
    """Implements `ports.ResolveJobToken`: only while the job is on its runner."""
    if not token.startswith(TOKEN_PREFIX):
        return None
    job = (await db.execute(_BY_TOKEN, {"digest": secret.digest(token)})).first()
    return JobIdentity(job.id, job.project_id, job.user_id) if job is not None else None
