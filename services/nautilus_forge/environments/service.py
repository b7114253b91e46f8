"""Environments: found or made for jobs, brought up to date by deployments, stopped.

Source: GitLab app/services/environments/{create_for_job,stop,auto_stop}_service.rb,
app/services/deployments/{create_for_job,update_environment}_service.rb, app/models/environment.rb.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci import duration
from nautilus_forge.ci.model import CompiledJob
from nautilus_forge.ci.slugs import environment_slug, environment_tier
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Deployment, Environment, Job, Pipeline
from nautilus_forge.environments.names import name_problems, url_problems
from nautilus_forge.errors import NotFound
from nautilus_forge.jobs import service as jobs
from nautilus_forge.jobs.errors import Unplayable

log = logging.getLogger(__name__)

_INSERT = text(
    """
    INSERT INTO environments (project_id, name, slug, tier) VALUES (:project, :name, :slug, :tier)
    ON CONFLICT DO NOTHING
    """
)
_NEXT_IID = text(
    """
    INSERT INTO ci_projects AS c (project_id, last_deployment_iid) VALUES (:project, 1)
    ON CONFLICT (project_id) DO UPDATE SET last_deployment_iid = c.last_deployment_iid + 1
    RETURNING last_deployment_iid
    """
)
_STOP_JOBS = text(
    """
    SELECT DISTINCT ON (s.name) s.id, d.user_id FROM deployments d
    JOIN ci_jobs j ON j.id = d.job_id
    JOIN ci_jobs s ON s.pipeline_id = j.pipeline_id AND s.name = d.on_stop AND NOT s.is_retried
    WHERE d.id = (SELECT max(id) FROM deployments
                  WHERE environment_id = :environment AND status = 'success' AND job_id IS NOT NULL)
    ORDER BY s.name, s.id DESC
    """
)
_RENEW = text(
    """
    UPDATE environments SET state = 'available', updated_at = now(),
        external_url = coalesce(CAST(:url AS varchar), external_url), tier = coalesce(CAST(:tier AS varchar), tier),
        auto_stop_at = CASE WHEN CAST(:is_never AS boolean) THEN NULL
                            WHEN CAST(:auto_stop_s AS bigint) IS NULL THEN auto_stop_at
                            ELSE now() + make_interval(secs => CAST(:auto_stop_s AS bigint)) END
    WHERE id = :id
    """
)


async def find(db: AsyncSession, project_id: int, environment_id: int) -> Environment:
    """Raises `NotFound`."""
    statement = select(Environment).where(
        Environment.id == environment_id, Environment.project_id == project_id
    )
    found = await db.scalar(statement.execution_options(populate_existing=True))
    if found is None:
        raise NotFound
    return found


async def by_name(db: AsyncSession, project_id: int, name: str) -> Environment | None:
    return await db.scalar(
        select(Environment).where(Environment.project_id == project_id, Environment.name == name)
    )


async def ensure(db: AsyncSession, project_id: int, name: str, tier: str | None = None) -> Environment | None:
    """The environment of this name, made where there is none; None where there can be none."""
    if name_problems(name):
        return None
    found = await by_name(db, project_id, name)
    if found is not None:
        return found
    values = {"slug": environment_slug(name), "tier": tier or environment_tier(name)}
    await db.execute(_INSERT, {"project": project_id, "name": name, **values})
    return await by_name(db, project_id, name)


async def for_new_job(db: AsyncSession, pipeline: Pipeline, job: Job, compiled: CompiledJob) -> bool:
    """The environment and the deployment of a job that was just added; False where there can be none."""
    wanted = compiled.environment
    if wanted is None:
        return True
    environment = await ensure(db, pipeline.project_id, wanted.name, wanted.deployment_tier)
    if environment is None:
        return False
    if wanted.action == "start":
        db.add(
            Deployment(
                iid=await next_iid(db, pipeline.project_id),
                project_id=pipeline.project_id,
                environment_id=environment.id,
                job_id=job.id,
                user_id=pipeline.user_id,
                ref=pipeline.ref,
                is_tag=pipeline.is_tag,
                sha=pipeline.sha,
                status="created",
                on_stop=wanted.on_stop,
            )
        )
    return True


async def next_iid(db: AsyncSession, project_id: int) -> int:
    found: int = (await db.execute(_NEXT_IID, {"project": project_id})).scalar_one()
    return found


async def note_success(
    db: AsyncSession, project_id: int, compiled: CompiledJob, url: str | None, auto_stop_in: str | None
) -> None:
    """A job of an environment has succeeded. `url`, `auto_stop_in`: of the job, with its variables put in."""
    wanted = compiled.environment
    environment = await by_name(db, project_id, wanted.name) if wanted is not None else None
    if wanted is None or environment is None:
        return
    if wanted.action == "stop":
        await db.execute(_STOPPED, {"id": environment.id})
        return
    if wanted.action == "verify":
        return
    is_deployed = wanted.action == "start"
    is_never = auto_stop_in is not None and auto_stop_in.strip().lower() == "never"
    seconds = duration.parse(auto_stop_in) if auto_stop_in is not None and not is_never else None
    if not is_deployed and seconds is None and not is_never:
        return
    values: dict[str, Any] = {
        "id": environment.id,
        "url": url if is_deployed and url and not url_problems(url) else None,
        "tier": wanted.deployment_tier if is_deployed else None,
        "auto_stop_s": seconds,
        "is_never": is_never,
    }
    await db.execute(_RENEW, values)


_STOPPED = text(
    "UPDATE environments SET state = 'stopped', auto_stop_at = NULL, updated_at = now() WHERE id = :id"
)
_STOPPING = text(
    "UPDATE environments SET state = 'stopping', auto_stop_at = NULL, updated_at = now() WHERE id = :id"
)


async def stop(
    ci: CiHalf, db: AsyncSession, environment_id: int, user_id: int | None, *, is_forced: bool = False
) -> None:
    """Plays the job that stops the environment, which is then `stopping`; without one it is stopped at once.

    `user_id` None: as whoever deployed last.
    """
    found = await db.execute(_STOP_JOBS, {"environment": environment_id})
    actions = [] if is_forced else found.all()
    played = 0
    for action in actions:
        job = await db.get(Job, action.id)
        if job is None:
            continue
        try:
            await jobs.play(ci, db, job, user_id or action.user_id, _NO_VARIABLES)
            played += 1
        except Unplayable:
            log.info("environment %s: job %s cannot be played now", environment_id, action.id)
    await db.execute(_STOPPING if played else _STOPPED, {"id": environment_id})


async def has_stop_job(db: AsyncSession, environment_id: int) -> bool:
    return (await db.execute(_STOP_JOBS, {"environment": environment_id})).first() is not None


_NO_VARIABLES: Mapping[str, str] = {}
