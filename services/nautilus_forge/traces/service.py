"""Appending to a running job's log, and checking it when the job ends."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import text

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.errors import JobForbidden
from nautilus_forge.jobs.transitions import finish
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.traces.live import LiveJob
from nautilus_forge.traces.store import Appended

log = logging.getLogger(__name__)

_SET_MASKED = text("UPDATE ci_jobs SET trace_is_masked = true WHERE id = :id")


async def append(ci: CiHalf, job: LiveJob, start: int, data: bytes) -> Appended:
    """Adds a piece of log. Raises `JobForbidden` over the size limit (the job fails), `InsufficientStorage`."""
    if start + len(data) > ci.limits.log_bytes:
        async with ci.forge.database.unit_of_work() as db:
            await finish(db, job.id, Status.FAILED, reason="trace_size_exceeded")
        ci.live.forget(job.id)
        raise JobForbidden(None, Status.FAILED.value)
    appended = ci.traces.append(job.id, start, data, job.mask)
    if not appended.is_accepted and start == 0 and job.may_reset:
        ci.traces.truncate(job.id)
        appended = ci.traces.append(job.id, 0, data, job.mask)
    ci.presence.jobs.add(job.id)
    ci.presence.saw(job.runner_id, job.runner_manager_id)
    if appended.is_masked and not job.is_masked:
        job.is_masked = True
        async with ci.forge.database.unit_of_work() as db:
            await db.execute(_SET_MASKED, {"id": job.id})
    return appended


def update_interval_s(ci: CiHalf, job: LiveJob) -> float:
    """How often the runner should send its log: often while somebody watches.

    Our own runner sends small parts cheaply: with it, whoever begins to watch waits no longer than a second.
    """
    if not ci.live.is_watched(job.id):
        return ci.limits.watched_interval_s if job.features.get("nautilus") else ci.limits.interval_s
    return ci.limits.watched_fraction_s if job.features.get("nautilus") else ci.limits.watched_interval_s


def interval_header(seconds: float) -> str:
    """Decimal seconds, whole where they are: a stock runner takes whole numbers alone."""
    return f"{seconds:g}"


async def is_complete(ci: CiHalf, job: LiveJob, checksum: str | None, bytesize: int | None) -> bool:
    """Whether the log on disk is the one that the runner sent. Without a checksum nothing can be said against it.

    Where the server hid a secret the contents differ by intent; then the size alone is compared.
    """
    if bytesize is not None and ci.traces.size(job.id) != bytesize:
        return False
    if checksum is None or job.is_masked:
        return True
    kind, _, told = checksum.partition(":")
    if kind != "crc32":
        return True
    return f"{await asyncio.to_thread(ci.traces.checksum, job.id):08x}" == told.lower().rjust(8, "0")
