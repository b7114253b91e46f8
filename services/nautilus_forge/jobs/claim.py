"""A runner gets a job: chosen, checked, and handed over on a lease, in one transaction.

Source: GitLab app/services/ci/register_job_service.rb, app/services/ci/queue/build_queue_service.rb.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledJob
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs import definition
from nautilus_forge.jobs.authorize import TOKEN_PREFIX
from nautilus_forge.jobs.dependencies import Inputs, read_inputs
from nautilus_forge.jobs.payload import Claim, build_payload
from nautilus_forge.jobs.transitions import finish
from nautilus_forge.pipelines import progress
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.runners.identity import RunnerIdentity
from nautilus_forge.tokens import secret
from nautilus_forge.variables.assemble import job_variables

log = logging.getLogger(__name__)

_MAX_DEPTH = 45

_PICK = text(
    """
    WITH busy AS (
        SELECT project_id, count(*) AS jobs FROM ci_jobs
        WHERE status IN ('running', 'canceling') OR status = 'pending' AND is_ack_awaited GROUP BY project_id
    )
    SELECT j.id, (SELECT count(*) FROM ci_jobs q WHERE q.status = 'pending' AND NOT q.is_ack_awaited) AS queue_size
    FROM ci_jobs j
    JOIN ci_runners r ON r.id = :runner AND r.is_active
    JOIN projects p ON p.id = j.project_id
    JOIN namespaces n ON n.id = p.namespace_id
    LEFT JOIN busy ON busy.project_id = j.project_id
    WHERE j.status = 'pending' AND NOT j.is_ack_awaited AND j.id <> ALL(CAST(:skipped AS bigint[]))
      AND p.deleted_at IS NULL AND coalesce(p.attributes->>'builds_access_level', 'enabled') <> 'disabled'
      AND (r.run_untagged OR j.tags <> '{}') AND j.tags <@ r.tags
      AND (r.access_level = 'not_protected' OR j.is_protected)
      AND CASE r.runner_type
          WHEN 'instance_type' THEN p.shared_runners_enabled
          WHEN 'project_type' THEN EXISTS (
              SELECT FROM ci_runner_projects rp WHERE rp.runner_id = r.id AND rp.project_id = j.project_id)
          ELSE coalesce((p.attributes->>'group_runners_enabled')::boolean, true) AND EXISTS (
              SELECT FROM namespaces g WHERE g.id = r.namespace_id
              AND (n.id = g.id OR starts_with(n.full_path, g.full_path || '/')))
          END
    ORDER BY coalesce(busy.jobs, 0), j.id
    LIMIT 1
    FOR UPDATE OF j SKIP LOCKED
    """
)
_TAKE = text(
    """
    UPDATE ci_jobs SET runner_id = :runner, runner_manager_id = CAST(:manager AS bigint), token_digest = :digest,
        runner_features = CAST(:features AS jsonb), lease_expires_at = now() + make_interval(secs => :lease_s),
        is_ack_awaited = :two_phase, is_processed = false, updated_at = now(), timeout_s = :timeout_s,
        status = CASE WHEN CAST(:two_phase AS boolean) THEN 'pending' ELSE 'running' END,
        started_at = CASE WHEN CAST(:two_phase AS boolean) THEN NULL ELSE now() END, last_contact_at = now()
    WHERE id = :id
    """
)
_READ = text(
    """
    SELECT j.id, j.definition, j.pipeline_id, j.project_id, j.user_id, j.is_protected,
           extract(epoch FROM now() - j.queued_at)::float AS queued_s,
           pl.iid, pl.ref, pl.is_tag, pl.sha, pl.before_sha, pl.source, pl.created_at AS pipeline_created_at,
           pl.name AS pipeline_name,
           (SELECT s.description FROM ci_pipeline_schedules s WHERE s.id = pl.schedule_id) AS schedule_description,
           p.name AS project_name, p.path AS project_path, p.build_timeout_s, p.attributes,
           n.id AS namespace_id, n.full_path AS namespace_path, u.state AS user_state,
           r.id AS runner_id, r.description AS runner_description, r.tags AS runner_tags,
           r.maximum_timeout_s, r.runner_type,
           (SELECT g.id FROM namespaces g WHERE g.full_path = split_part(n.full_path, '/', 1)) AS root_namespace_id,
           (SELECT count(*) FROM ci_jobs b JOIN ci_runners br ON br.id = b.runner_id
            WHERE b.project_id = j.project_id AND b.status = 'running' AND br.runner_type = 'instance_type')
               AS running_on_instance
    FROM ci_jobs j
    JOIN ci_pipelines pl ON pl.id = j.pipeline_id
    JOIN projects p ON p.id = j.project_id
    JOIN namespaces n ON n.id = p.namespace_id
    LEFT JOIN users u ON u.id = j.user_id
    JOIN ci_runners r ON r.id = :runner
    WHERE j.id = :id
    """
)


_IS_RUNNING = text("SELECT status = 'running' FROM ci_pipelines WHERE id = :id")


@dataclass(frozen=True)
class _Asking:
    runner_id: int
    manager_id: int | None
    features: dict[str, bool]


class _Abandoned(Exception):
    """The transaction is rolled back: the client has gone, or the job must fail instead (`reason`)."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


async def claim_job(
    ci: CiHalf,
    runner: RunnerIdentity,
    manager_id: int | None,
    params: Mapping[str, Any],
    is_gone: Callable[[], bool],
) -> dict[str, Any] | None:
    """The payload of the job that the runner gets, None where there is none for it.

    Among the jobs that the runner may take, one of the project that has the fewest at work, the oldest first.
    The job has a lease: see `CiLimits.lease_s`. When the client has gone by the end, nothing has happened.
    """
    asking = _Asking(runner.id, manager_id, _features(params))
    skipped: list[int] = []
    while len(skipped) < _MAX_DEPTH:
        picked: list[int] = []
        try:
            async with ci.forge.database.unit_of_work() as db:
                payload = await _claim(ci, db, asking, skipped, picked)
                if payload is None:
                    return None
                if is_gone():
                    raise _Abandoned
        except _Abandoned as abandoned:
            if abandoned.reason is None:
                return None
            await _drop(ci, picked[0], abandoned.reason)
        except Exception:
            if not picked:
                raise
            log.exception("the payload of job %s cannot be made", picked[0])
            await _drop(ci, picked[0], "scheduler_failure")
        else:
            pipeline_id = payload["job_info"]["pipeline_id"]
            ci.forge.spawn(note_claim(ci, pipeline_id), f"progress of pipeline {pipeline_id}")
            return payload
        skipped.append(picked[0])
    return None


async def note_claim(ci: CiHalf, pipeline_id: int) -> None:
    """The pipeline takes note that a job of its runs, where it does not show that already.

    The upkeep does it when this fails, and for jobs after the first.
    """
    async with ci.forge.database.unit_of_work() as db:
        if await db.scalar(_IS_RUNNING, {"id": pipeline_id}):
            return
        if await progress.lock_pipeline(db, pipeline_id):
            await progress.process(db, pipeline_id)


async def _drop(ci: CiHalf, job_id: int, reason: str) -> None:
    async with ci.forge.database.unit_of_work() as db:
        await finish(db, job_id, Status.FAILED, reason=reason)


async def _claim(
    ci: CiHalf, db: AsyncSession, asking: _Asking, skipped: list[int], picked: list[int]
) -> dict[str, Any] | None:
    """The payload of a job that is now taken; its id goes to `picked` first. Raises `_Abandoned`."""
    found = (await db.execute(_PICK, {"runner": asking.runner_id, "skipped": skipped})).first()
    if found is None:
        return None
    picked.append(found.id)
    row = (await db.execute(_READ, {"id": found.id, "runner": asking.runner_id})).one()
    job = definition.from_json(row.definition)
    inputs = await read_inputs(db, row.pipeline_id, job)
    reason = _refusal(row, job, inputs, asking.features)
    if reason is not None:
        raise _Abandoned(reason)
    timeout_s = _timeout_s(row, job)
    token = await _take(ci, db, asking, row.id, timeout_s)
    variables = await job_variables(ci, db, row, job, inputs, token, timeout_s)
    claim = _described(ci, row, job, inputs, token, timeout_s)
    depth = {"queue_size": found.queue_size - 1, "queue_depth": len(skipped) + 1}
    return build_payload(replace(claim, variables=variables, **depth))


async def _take(ci: CiHalf, db: AsyncSession, asking: _Asking, job_id: int, timeout_s: int) -> str:
    """Gives the job to the runner on a lease; the job's new token."""
    token = secret.generate(TOKEN_PREFIX, 24)
    await db.execute(
        _TAKE,
        {
            "id": job_id,
            "runner": asking.runner_id,
            "manager": asking.manager_id,
            "digest": secret.digest(token),
            "features": orjson.dumps(asking.features).decode(),
            "two_phase": asking.features.get("two_phase_job_commit", False),
            "lease_s": ci.limits.lease_s,
            "timeout_s": timeout_s,
        },
    )
    return token


def _described(
    ci: CiHalf, row: Row[Any], job: CompiledJob, inputs: Inputs, token: str, timeout_s: int
) -> Claim:
    """What the payload is made of, without the variables."""
    is_instance = row.runner_type == "instance_type"
    return Claim(
        id=row.id,
        token=token,
        job=job,
        pipeline_id=row.pipeline_id,
        project_id=row.project_id,
        project_name=row.project_name,
        project_path=f"{row.namespace_path}/{row.project_path}",
        namespace_id=row.namespace_id,
        root_namespace_id=row.root_namespace_id or row.namespace_id,
        user_id=row.user_id,
        ref=row.ref,
        is_tag=row.is_tag,
        is_protected=row.is_protected,
        sha=row.sha,
        before_sha=row.before_sha,
        external_url=ci.forge.settings.external_url,
        registry=ci.forge.settings.registry_host,
        timeout_s=timeout_s,
        dependencies=inputs.dependencies,
        default_depth=int(row.attributes.get("ci_default_git_depth", 20) or 0),
        queued_s=max(row.queued_s or 0.0, 0.0),
        running_on_instance_runners=row.running_on_instance if is_instance else None,
    )


def _features(params: Mapping[str, Any]) -> dict[str, bool]:
    """What the runner says that it can do, as booleans; `nautilus` for our own, which takes fractions of seconds."""
    info = params.get("info")
    info = info if isinstance(info, Mapping) else {}
    told = info.get("features")
    told = told if isinstance(told, Mapping) else {}
    features = {str(k)[:64]: True for k, v in list(told.items())[:200] if v is True or v == "true"}
    if info.get("name") == "nautilus-runner":
        features["nautilus"] = True
    return features


def _refusal(row: Row[Any], job: CompiledJob, inputs: Inputs, features: Mapping[str, bool]) -> str | None:
    """Why the job must not be handed out to this runner, as a failure reason."""
    if inputs.is_missing:
        return "missing_dependency_failure"
    needed = {
        "upload_multiple_artifacts": job.artifacts is not None and bool(job.artifacts.reports),
        "artifacts_exclude": job.artifacts is not None and bool(job.artifacts.exclude),
        "return_exit_code": bool(job.allow_failure_exit_codes),
    }
    if any(is_needed and not features.get(name) for name, is_needed in needed.items()):
        return "runner_unsupported"
    if row.user_state is not None and row.user_state != "active":
        return "user_blocked"
    return None


def _timeout_s(row: Row[Any], job: CompiledJob) -> int:
    """The job's own timeout or the project's, at most the runner's."""
    timeout_s: int = job.timeout_s or row.build_timeout_s
    return min(timeout_s, row.maximum_timeout_s) if row.maximum_timeout_s else timeout_s
