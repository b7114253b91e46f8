"""Runners get jobs: chosen, checked, and handed over on a lease, in one transaction for all that ask at a time.

Source: GitLab app/services/ci/register_job_service.rb, app/services/ci/queue/build_queue_service.rb.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import CompiledJob
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs import definition
from nautilus_forge.jobs.asks import Ask
from nautilus_forge.jobs.authorize import TOKEN_PREFIX
from nautilus_forge.jobs.dependencies import Inputs, read_inputs
from nautilus_forge.jobs.payload import Claim, build_payload
from nautilus_forge.jobs.picking import Picked, pick
from nautilus_forge.jobs.transitions import REQUEUE, finish
from nautilus_forge.pipelines import progress
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.tokens import secret
from nautilus_forge.variables.assemble import job_variables
from nautilus_forge.variables.known import Known

log = logging.getLogger(__name__)

_MAX_DEPTH = 45

_READ = text(
    """
    SELECT j.id, j.definition, j.pipeline_id, j.project_id, j.user_id, j.is_protected,
           extract(epoch FROM now() - j.queued_at)::float AS queued_s,
           pl.iid, pl.ref, pl.is_tag, pl.sha, pl.before_sha, pl.source, pl.created_at AS pipeline_created_at,
           pl.name AS pipeline_name, pl.status AS pipeline_status, pl.merge_request_variables,
           (SELECT s.description FROM ci_pipeline_schedules s WHERE s.id = pl.schedule_id) AS schedule_description,
           (SELECT e.id FROM environments e WHERE e.project_id = j.project_id
            AND e.name = j.definition->'environment'->>'name') AS environment_id,
           EXISTS (SELECT FROM deployments d JOIN deployments later ON later.environment_id = d.environment_id
                   WHERE d.job_id = j.id AND later.status = 'success' AND later.id > d.id AND later.sha <> d.sha)
               AS is_outdated,
           p.name AS project_name, p.path AS project_path, p.build_timeout_s, p.attributes, p.default_branch,
           p.description AS project_description, p.visibility, p.ci_config_path,
           n.id AS namespace_id, n.full_path AS namespace_path, n.traversal_ids[1] AS root_namespace_id,
           u.state AS user_state, u.username, u.name AS user_name, u.email AS user_email,
           r.id AS runner_id, r.description AS runner_description, r.tags AS runner_tags,
           r.maximum_timeout_s, r.runner_type,
           EXISTS (SELECT FROM ci_job_variables v WHERE v.job_id = j.id) AS has_own_variables,
           EXISTS (SELECT FROM ci_pipeline_variables v WHERE v.pipeline_id = pl.id) AS has_given_variables,
           EXISTS (SELECT FROM ci_variables v WHERE v.project_id = p.id OR v.namespace_id = ANY(n.traversal_ids)
                   OR v.project_id IS NULL AND v.namespace_id IS NULL) AS has_stored_variables
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:runners AS bigint[])) AS picked(job_id, runner_id)
    JOIN ci_jobs j ON j.id = picked.job_id
    JOIN ci_pipelines pl ON pl.id = j.pipeline_id
    JOIN projects p ON p.id = j.project_id
    JOIN namespaces n ON n.id = p.namespace_id
    LEFT JOIN users u ON u.id = j.user_id
    JOIN ci_runners r ON r.id = picked.runner_id
    """
)
_TAKE = text(
    """
    UPDATE ci_jobs j SET runner_id = taken.runner_id, runner_manager_id = taken.manager_id,
        token_digest = taken.digest, runner_features = taken.features::jsonb, timeout_s = taken.timeout_s,
        lease_expires_at = now() + make_interval(secs => :lease_s),
        is_ack_awaited = taken.two_phase, is_processed = false, updated_at = now(),
        status = CASE WHEN taken.two_phase THEN 'pending' ELSE 'running' END,
        started_at = CASE WHEN taken.two_phase THEN NULL ELSE now() END, last_contact_at = now()
    FROM unnest(CAST(:ids AS bigint[]), CAST(:runners AS bigint[]), CAST(:managers AS bigint[]),
                CAST(:digests AS bytea[]), CAST(:features AS text[]), CAST(:two_phases AS boolean[]),
                CAST(:timeouts AS integer[]))
         AS taken(id, runner_id, manager_id, digest, features, two_phase, timeout_s)
    WHERE j.id = taken.id
    """
)
_IS_RUNNING = text("SELECT status = 'running' FROM ci_pipelines WHERE id = :id")


@dataclass(frozen=True)
class _Ready:
    """A job whose payload is made: it only has to be taken."""

    ask: Ask
    job_id: int
    token: str
    timeout_s: int
    is_first: bool
    """The pipeline does not show yet that something of it runs."""
    payload: dict[str, Any]


@dataclass(frozen=True)
class _Round:
    """What one transaction did: `given` to their runners, `bad` jobs with the reason why they must fail."""

    given: Sequence[_Ready] = ()
    bad: Mapping[int, str] | None = None
    again: Sequence[Ask] = ()
    """Who may ask once more: the job that was picked for them is bad, or somebody else had it first."""


class _Refused(Exception):
    """The job must fail instead of being handed out; `reason` as in `jobs.failures`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def claim_job(ci: CiHalf, ask: Ask) -> dict[str, Any] | None:
    """The payload of the job that the runner gets, None where there is none for it.

    Among the jobs that the runner may take, one of the project that has the fewest at work, the oldest first.
    The job has a lease: see `CiLimits.lease_s`. When the client has gone by the end, nothing has happened.
    """
    ci.asks.add(ask)
    if not ci.asks.is_served:
        ci.asks.is_served = True
        ci.forge.spawn(_serve(ci), "hand out jobs")
    return await ask.answer


async def _serve(ci: CiHalf) -> None:
    """One batch after the other until nobody asks. A failure is the answer to those whom it concerns."""
    try:
        while batch := ci.asks.next_batch():
            try:
                await _hand_out(ci, batch)
            except Exception as error:
                for ask in batch:
                    ask.failed(error)
            finally:
                for ask in batch:
                    ask.answered(None)
    finally:
        ci.asks.is_served = False


async def _hand_out(ci: CiHalf, asks: list[Ask]) -> None:
    bad: set[int] = set()
    for depth in range(1, _MAX_DEPTH + 1):
        asks = [ask for ask in asks if not ask.is_gone]
        if not asks:
            return
        async with ci.forge.database.unit_of_work() as db:
            done = await _round(ci, db, asks, bad, depth)
        for ready in done.given:
            ready.ask.answered(ready.payload)
        _note(ci, {ready.payload["job_info"]["pipeline_id"] for ready in done.given if ready.is_first})
        for job_id, reason in (done.bad or {}).items():
            bad.add(job_id)
            async with ci.forge.database.unit_of_work() as db:
                await finish(db, job_id, Status.FAILED, reason=reason)
        asks = list(done.again)


async def _round(ci: CiHalf, db: AsyncSession, asks: Sequence[Ask], bad: Iterable[int], depth: int) -> _Round:
    picked = await pick(db, asks, bad)
    if not picked:
        return _Round()
    ready, refused = await _prepare(ci, db, picked, depth)
    if not ready:
        return _Round((), refused, [p.ask for p in picked])
    await _take(ci, db, ready)
    given = [one for one in ready if not one.ask.is_gone]
    if len(given) < len(ready):
        await db.execute(REQUEUE, {"ids": [one.job_id for one in ready if one not in given]})
        ci.look.set()
    return _Round(given, refused, [p.ask for p in picked if p.job_id in refused])


async def _prepare(
    ci: CiHalf, db: AsyncSession, picked: Sequence[Picked], depth: int
) -> tuple[list[_Ready], dict[int, str]]:
    """Payloads of the picked jobs, and why there is none for some."""
    values = {"jobs": [p.job_id for p in picked], "runners": [p.ask.runner.id for p in picked]}
    rows = {row.id: row for row in await db.execute(_READ, values)}
    known = Known(without=[row.id for row in rows.values() if not row.has_own_variables])
    await known.read_jobs(db, rows)
    ready, refused = [], {}
    for one in picked:
        try:
            ready.append(await _ready(ci, db, one, rows[one.job_id], known, depth))
        except _Refused as error:
            refused[one.job_id] = error.reason
        except SQLAlchemyError:
            raise
        except Exception:
            log.exception("the payload of job %s cannot be made", one.job_id)
            refused[one.job_id] = "scheduler_failure"
    return ready, refused


async def _ready(
    ci: CiHalf, db: AsyncSession, picked: Picked, row: Row[Any], known: Known, depth: int
) -> _Ready:
    """Raises `_Refused`."""
    ask = picked.ask
    job = definition.from_json(row.definition)
    inputs = await read_inputs(db, row.pipeline_id, job, known)
    reason = _refusal(row, job, inputs, ask.features)
    if reason is not None:
        raise _Refused(reason)
    timeout_s = _timeout_s(row, job)
    token = secret.generate(TOKEN_PREFIX, 24)
    variables = await job_variables(ci, db, row, job, inputs, token, timeout_s, known)
    claim = replace(
        _described(ci, row, job, inputs, token, timeout_s),
        variables=variables,
        running_on_instance_runners=picked.busy_on_instance if row.runner_type == "instance_type" else None,
        queue_size=picked.queue_size,
        queue_depth=depth,
    )
    return _Ready(ask, row.id, token, timeout_s, row.pipeline_status != Status.RUNNING, build_payload(claim))


async def _take(ci: CiHalf, db: AsyncSession, ready: Sequence[_Ready]) -> None:
    """Gives the jobs to their runners, each on a lease."""
    await db.execute(
        _TAKE,
        {
            "ids": [one.job_id for one in ready],
            "runners": [one.ask.runner.id for one in ready],
            "managers": [one.ask.manager_id for one in ready],
            "digests": [secret.digest(one.token) for one in ready],
            "features": [orjson.dumps(one.ask.features).decode() for one in ready],
            "two_phases": [one.ask.features.get("two_phase_job_commit", False) for one in ready],
            "timeouts": [one.timeout_s for one in ready],
            "lease_s": ci.limits.lease_s,
        },
    )


async def read_taken(db: AsyncSession, job_id: int, runner_id: int) -> Row[Any] | None:
    """A job that the runner has, with all that its variables are made of."""
    return (await db.execute(_READ, {"jobs": [job_id], "runners": [runner_id]})).first()


def _note(ci: CiHalf, pipeline_ids: Iterable[int]) -> None:
    for pipeline_id in pipeline_ids:
        ci.forge.spawn(note_claim(ci, pipeline_id), f"progress of pipeline {pipeline_id}")


async def note_claim(ci: CiHalf, pipeline_id: int) -> None:
    """The pipeline takes note that a job of its runs, where it does not show that already.

    The upkeep does it when this fails, and for jobs after the first.
    """
    async with ci.forge.database.unit_of_work() as db:
        if await db.scalar(_IS_RUNNING, {"id": pipeline_id}):
            return
        if await progress.lock_pipeline(db, pipeline_id):
            await progress.process(db, pipeline_id)


def _described(
    ci: CiHalf, row: Row[Any], job: CompiledJob, inputs: Inputs, token: str, timeout_s: int
) -> Claim:
    """What the payload is made of, without the variables."""
    return Claim(
        id=row.id,
        token=token,
        job=job,
        pipeline_id=row.pipeline_id,
        project_id=row.project_id,
        project_name=row.project_name,
        project_path=f"{row.namespace_path}/{row.project_path}",
        namespace_id=row.namespace_id,
        root_namespace_id=row.root_namespace_id,
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
    )


def features_of(params: Mapping[str, Any]) -> dict[str, bool]:
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
    if row.is_outdated and row.attributes.get("ci_forward_deployment_enabled", True):
        return "failed_outdated_deployment_job"
    return None


def _timeout_s(row: Row[Any], job: CompiledJob) -> int:
    """The job's own timeout or the project's, at most the runner's."""
    timeout_s: int = job.timeout_s or row.build_timeout_s
    return min(timeout_s, row.maximum_timeout_s) if row.maximum_timeout_s else timeout_s
