"""PUT /jobs/:id: a runner reports how its job is.

Source: docs of the runner protocol; GitLab app/services/ci/update_build_state_service.rb,
spec/requests/api/ci/runner/jobs_put_spec.rb, runner_job_confirmation_spec.rb.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.environments.following import follow_success
from nautilus_forge.errors import BadRequest, InvalidParams
from nautilus_forge.jobs.authorize import find_job, live_job
from nautilus_forge.jobs.claim import note_claim
from nautilus_forge.jobs.errors import JobForbidden
from nautilus_forge.jobs.failures import known_reason
from nautilus_forge.jobs.transitions import finish_locked, lock_job
from nautilus_forge.pipelines.statuses import ON_RUNNER, Status
from nautilus_forge.reports.coverage import coverage_of
from nautilus_forge.responses import Json
from nautilus_forge.traces.live import LiveJob
from nautilus_forge.traces.service import interval_header, is_complete, update_interval_s

log = logging.getLogger(__name__)

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")
_KEEP_WAITING = text(
    """
    UPDATE ci_jobs SET lease_expires_at = now() + make_interval(secs => :lease_s)
    WHERE id = :id AND is_ack_awaited AND token_digest = :digest
    """
)
_START = text(
    """
    UPDATE ci_jobs SET status = 'running', started_at = now(), last_contact_at = now(), is_ack_awaited = false,
        lease_expires_at = NULL, is_processed = false, updated_at = now()
    WHERE id = :id AND is_ack_awaited AND token_digest = :digest AND status = 'pending'
    """
)
_COUNT_RESET = text(
    "UPDATE ci_jobs SET trace_resets = trace_resets + 1 WHERE id = :id AND trace_resets < :limit RETURNING trace_resets"
)
_SET_MEASURED = text("UPDATE ci_jobs SET trace_checksum = :checksum, coverage = :coverage WHERE id = :id")


async def update_job(ci: CiHalf, request: Request, job_id: int, params: Mapping[str, Any]) -> Response:
    """200, 412 (the log does not match: send it again), or raises `JobForbidden`, `BadRequest`, `InvalidParams`."""
    token = params.get("token") or request.headers.get("job-token")
    if not isinstance(token, str) or not token:
        raise InvalidParams("token is missing")
    state = str(params.get("state") or "")
    acknowledged = await _acknowledge(ci, job_id, token, state)
    if acknowledged is not None:
        return acknowledged
    job = await live_job(ci, job_id, token)
    ci.presence.jobs.add(job_id)
    ci.presence.saw(job.runner_id, job.runner_manager_id)
    if state == "running":
        return await _still_running(ci, request, job)
    if state not in ("success", "failed"):
        raise BadRequest(message="400 Bad Request")
    return await _finished(ci, job, state, params)


async def _acknowledge(ci: CiHalf, job_id: int, token: str, state: str) -> Response | None:
    """The second phase of a two-phase claim; None where the job is not in it (any more)."""
    if state not in ("pending", "running", "success", "failed") or ci.live.get(job_id) is not None:
        return None
    async with ci.forge.database.unit_of_work() as db:
        job = await find_job(db, job_id, token)
        if Status(job.status) in ON_RUNNER:
            return None
        if not job.is_ack_awaited:
            raise JobForbidden("Job is not processing on runner", job.status)
        ci.presence.saw(job.runner_id)
        values = {"id": job_id, "digest": job.token_digest, "lease_s": ci.limits.lease_s}
        if state == "pending":
            await db.execute(_KEEP_WAITING, values)
            return Json(200, 200, {"Job-Status": job.status})
        if state != "running":
            raise BadRequest(message="400 Bad Request")
        await db.execute(_START, values)
    ci.forge.spawn(note_claim(ci, job.pipeline_id), f"progress of pipeline {job.pipeline_id}")
    return None


async def _still_running(ci: CiHalf, request: Request, job: LiveJob) -> Response:
    """A touch. With `Prefer: wait=N` (RFC 7240) it is held until the job changes, at most N seconds."""
    headers = {}
    wait_s = _preferred_wait_s(ci, request)
    if wait_s > 0 and job.status is Status.RUNNING:
        headers["Preference-Applied"] = f"wait={wait_s:g}"
        end = time.monotonic() + wait_s
        while job.status is Status.RUNNING and not ci.forge.stopping.is_set() and time.monotonic() < end:
            await ci.live.changed(job.id, end - time.monotonic(), ci.forge.stopping)
            job = await live_job(ci, job.id, job.token)
    interval = interval_header(update_interval_s(ci, job))
    headers |= {"Job-Status": job.status.value, "X-GitLab-Trace-Update-Interval": interval}
    return Json(200, 200, headers)


def _preferred_wait_s(ci: CiHalf, request: Request) -> float:
    match = _WAIT.search(request.headers.get("prefer", ""))
    return min(float(match[1]), ci.limits.update_hold_s) if match else 0.0


async def _finished(ci: CiHalf, job: LiveJob, state: str, params: Mapping[str, Any]) -> Response:
    checksum, bytesize = _trace_of(params)
    if not await is_complete(ci, job, checksum, bytesize) and await _may_send_again(ci, job):
        headers = {"Job-Status": job.status.value, "X-GitLab-Trace-Update-Interval": "1"}
        return Json(412, 412, headers)
    await asyncio.to_thread(ci.traces.sync, job.id)
    coverage = None
    if job.coverage is not None:
        coverage = await asyncio.to_thread(coverage_of, ci.traces.path(job.id), job.coverage)
    status = Status.SUCCESS if state == "success" else Status.FAILED
    async with ci.forge.database.unit_of_work() as db:
        row = await lock_job(db, job.id)
        if row is None or row.token_digest is None or Status(row.status) not in ON_RUNNER:
            raise JobForbidden("Job is not processing on runner", row.status if row is not None else None)
        await find_job(db, job.id, job.token)
        await db.execute(_SET_MEASURED, {"id": job.id, "checksum": checksum, "coverage": coverage})
        exit_code = params.get("exit_code")
        await finish_locked(
            db,
            row,
            status,
            reason=known_reason(params.get("failure_reason")) if status is Status.FAILED else None,
            exit_code=int(exit_code)
            if isinstance(exit_code, int | str) and str(exit_code).isdigit()
            else None,
            is_handed_back=params.get("requeue") is True,
        )
        if status is Status.SUCCESS and row.has_environment:
            await follow_success(ci, db, job.id, job.runner_id, job.token)
        ended = await find_job(db, job.id, job.token)
    ci.live.forget(job.id)
    ci.traces.close(job.id)
    return Json(200, 200, {"Job-Status": ended.status})


def _trace_of(params: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """(checksum, size in bytes) of the runner's log, where it tells them."""
    output = params.get("output")
    output = output if isinstance(output, Mapping) else {}
    checksum = output.get("checksum") or params.get("checksum")
    bytesize = output.get("bytesize")
    return (
        checksum if isinstance(checksum, str) and len(checksum) < 100 else None,
        bytesize if isinstance(bytesize, int) and not isinstance(bytesize, bool) else None,
    )


async def _may_send_again(ci: CiHalf, job: LiveJob) -> bool:
    """Whether the runner is asked for the whole log again; after some tries it is taken as it is."""
    if not job.features.get("trace_reset"):
        log.warning("the log of job %s does not match, and its runner cannot send it again", job.id)
        return False
    async with ci.forge.database.unit_of_work() as db:
        counted = await db.execute(_COUNT_RESET, {"id": job.id, "limit": ci.limits.trace_resets})
        is_counted = counted.first() is not None
    ci.live.forget(job.id)
    if not is_counted:
        log.warning("the log of job %s does not match after %s tries", job.id, ci.limits.trace_resets)
    return is_counted
