"""What time alone brings about: leases that run out, delayed jobs, lost runners, stuck jobs, expired artifacts.

One loop per process; only the process that holds the upkeep lock (`jobs.wakeups`) works. Every step is its own
transaction in the database's clock, decides again under the locks, and may fail without harm to the others: a
database that goes away is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.environments.stopping import stop_expired
from nautilus_forge.jobs.transitions import enqueue_locked, finish_locked, lock_job, requeue
from nautilus_forge.jobs.wakeups import Listener
from nautilus_forge.pipelines import progress
from nautilus_forge.pipelines.statuses import ON_RUNNER, Status

log = logging.getLogger(__name__)

_BATCH = 200

_LEASES = text(
    """
    SELECT id FROM ci_jobs WHERE status IN ('pending', 'running') AND lease_expires_at < now()
    ORDER BY id LIMIT :batch
    """
)
_DELAYED = text(
    "SELECT id FROM ci_jobs WHERE status = 'scheduled' AND scheduled_at <= now() ORDER BY id LIMIT :batch"
)
_UNPROCESSED = text(
    """
    SELECT DISTINCT pipeline_id AS id FROM ci_jobs
    WHERE NOT is_processed AND updated_at < now() - interval '3 seconds' LIMIT :batch
    """
)
_OVERDUE = text(
    """
    SELECT id FROM ci_jobs WHERE status IN ('running', 'canceling') AND timeout_s IS NOT NULL
      AND started_at < now() - make_interval(secs => timeout_s + :timeout_grace_s) ORDER BY id LIMIT :batch
    """
)
_SILENT = text(
    """
    SELECT id FROM ci_jobs WHERE status IN ('running', 'canceling') AND lease_expires_at IS NULL AND NOT is_external
      AND coalesce(last_contact_at, started_at) < now() - make_interval(secs => CASE
          WHEN runner_features->>'cancelable' = 'true' OR runner_features->>'trace_checksum' = 'true'
          THEN :silence_s ELSE :silence_plain_s END)
    ORDER BY id LIMIT :batch
    """
)
_PENDING = text(
    """
    SELECT j.id, count(r.id) AS fitting, max(r.contacted_at) < now() - make_interval(secs => :stuck_offline_s)
           AS is_offline, j.queued_at < now() - make_interval(secs => :stuck_offline_s) AS is_old
    FROM ci_jobs j
    JOIN projects p ON p.id = j.project_id
    JOIN namespaces n ON n.id = p.namespace_id
    LEFT JOIN ci_runners r ON (r.run_untagged OR j.tags <> '{}') AND j.tags <@ r.tags
        AND (r.access_level = 'not_protected' OR j.is_protected)
        AND CASE r.runner_type
            WHEN 'instance_type' THEN p.shared_runners_enabled
            WHEN 'project_type' THEN EXISTS (
                SELECT FROM ci_runner_projects rp WHERE rp.runner_id = r.id AND rp.project_id = j.project_id)
            ELSE coalesce((p.attributes->>'group_runners_enabled')::boolean, true)
                AND n.traversal_ids @> ARRAY[r.namespace_id]
            END
    WHERE j.status = 'pending' AND NOT j.is_ack_awaited AND NOT j.is_external
      AND j.queued_at < now() - make_interval(secs => :stuck_s)
    GROUP BY j.id HAVING count(r.id) = 0 OR j.queued_at < now() - make_interval(secs => :stuck_offline_s)
    ORDER BY j.id LIMIT :batch
    """
)
_EXPIRED = text(
    """
    DELETE FROM ci_job_artifacts WHERE id IN (
        SELECT a.id FROM ci_job_artifacts a
        JOIN ci_jobs j ON j.id = a.job_id
        JOIN ci_pipelines pl ON pl.id = j.pipeline_id
        JOIN projects p ON p.id = pl.project_id
        WHERE a.expire_at <= now() AND NOT (
            :keeps_latest AND coalesce((p.attributes->>'keep_latest_artifact')::boolean, true)
            AND pl.id IS NOT DISTINCT FROM (SELECT max(l.id) FROM ci_pipelines l WHERE l.project_id = pl.project_id
                         AND l.ref = pl.ref AND l.is_tag = pl.is_tag AND l.status = 'success'))
        ORDER BY a.expire_at LIMIT :batch FOR UPDATE OF a SKIP LOCKED)
    """
)
_DELETED_FILES = text("SELECT id, path FROM ci_deleted_files ORDER BY id LIMIT :batch")
_FORGET_FILES = text("DELETE FROM ci_deleted_files WHERE id = ANY(CAST(:ids AS bigint[]))")


@dataclass
class Upkeep:
    """`started_at`: nothing is held against runners that could not reach a forge that was not there."""

    ci: CiHalf
    listener: Listener
    started_at: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Works until cancelled."""
        slow_at = 0.0
        while True:
            await asyncio.sleep(self.ci.limits.upkeep_every_s)
            if not self.listener.has_upkeep_lock:
                continue
            for step in (self.end_leases, self.start_delayed, self.catch_up):
                await self._attempt(step)
            if time.monotonic() >= slow_at:
                slow_at = time.monotonic() + 10 * self.ci.limits.upkeep_every_s
                for step in (
                    self.end_overdue,
                    self.end_silent,
                    self.end_stuck,
                    self.expire_artifacts,
                    self.stop_environments,
                    self.delete_files,
                ):
                    await self._attempt(step)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:
            log.warning("upkeep: %s failed: %s", getattr(step, "__name__", step), error)

    async def end_leases(self) -> None:
        """Jobs whose runner never confirmed them go back to the queue."""
        if self._is_younger_than(self.ci.limits.lease_s):
            return
        for job in await self._ids(_LEASES):
            async with self.ci.forge.database.unit_of_work() as db:
                if await requeue(db, job):
                    log.warning("job %s was not confirmed by its runner in time and is offered again", job)
            self.ci.live.forget(job)

    async def start_delayed(self) -> None:
        for job in await self._ids(_DELAYED):
            async with self.ci.forge.database.unit_of_work() as db:
                row = await lock_job(db, job)
                if row is not None and row.status == Status.SCHEDULED:
                    await enqueue_locked(db, row)

    async def catch_up(self) -> None:
        """Pipelines that have not taken note of a change of their jobs: a claim whose process died, say."""
        for pipeline in await self._ids(_UNPROCESSED):
            async with self.ci.forge.database.unit_of_work() as db:
                if await progress.lock_pipeline(db, pipeline):
                    await progress.process(db, pipeline)

    async def end_overdue(self) -> None:
        """The runner should have ended the job itself."""
        await self._fail(_OVERDUE, "job_execution_server_timeout")

    async def end_silent(self) -> None:
        """Nothing was heard of the job's runner for too long."""
        if self._is_younger_than(self.ci.limits.silence_s):
            return
        await self._flush_presence()
        await self._fail(_SILENT, "no_updates_running")

    async def end_stuck(self) -> None:
        """Pending jobs that no runner will ever take."""
        if self._is_younger_than(self.ci.limits.stuck_s):
            return
        for row in await self._rows(_PENDING):
            if row.fitting == 0:
                await self._finish(row.id, "stuck_pending_no_matching_runners", (Status.PENDING,))
            elif row.is_old and row.is_offline is not False:
                await self._finish(row.id, "stuck_or_timeout_failure", (Status.PENDING,))

    async def expire_artifacts(self) -> None:
        """Those of a ref's latest successful pipeline stay, unless that is switched off.

        Source: doc/ci/jobs/job_artifacts.md "Keep artifacts from most recent successful jobs".
        """
        async with self.ci.forge.database.unit_of_work() as db:
            keeps_latest = (await current_values(db)).keep_latest_artifact
            await db.execute(_EXPIRED, {"batch": _BATCH, "keeps_latest": keeps_latest})

    async def stop_environments(self) -> None:
        """Those whose `auto_stop_in` is over."""
        await stop_expired(self.ci)

    async def delete_files(self) -> None:
        """Logs and artifacts whose rows are gone."""
        async with self.ci.forge.database.unit_of_work() as db:
            rows = (await db.execute(_DELETED_FILES, {"batch": _BATCH})).all()
            for row in rows:
                await asyncio.to_thread(self._delete_file, row.path)
            if rows:
                await db.execute(_FORGET_FILES, {"ids": [row.id for row in rows]})

    def _delete_file(self, path: str) -> None:
        if path.startswith("artifacts/"):
            self.ci.blobs.remove(path)
        else:
            (self.ci.forge.settings.data_dir / path).unlink(missing_ok=True)

    def _is_younger_than(self, seconds: float) -> bool:
        return time.monotonic() - self.started_at < seconds

    async def _flush_presence(self) -> None:
        async with self.ci.forge.database.unit_of_work() as db:
            await self.ci.presence.flush(db)

    async def _fail(self, found: TextClause, reason: str) -> None:
        for job in await self._ids(found):
            await self._finish(job, reason, ON_RUNNER)

    async def _finish(self, job_id: int, reason: str, statuses: Sequence[Status] | frozenset[Status]) -> None:
        async with self.ci.forge.database.unit_of_work() as db:
            row = await lock_job(db, job_id)
            if row is None or Status(row.status) not in statuses:
                return
            if Status(row.status) is Status.CANCELING:
                reason = "no_updates_canceling"
            await finish_locked(db, row, Status.FAILED, reason=reason)
        self.ci.live.forget(job_id)
        log.warning("job %s was ended: %s", job_id, reason)

    async def _ids(self, statement: TextClause) -> list[int]:
        return [row.id for row in await self._rows(statement)]

    async def _rows(self, statement: TextClause) -> Sequence[Any]:
        limits = self.ci.limits
        known = {
            "batch": _BATCH,
            "timeout_grace_s": limits.timeout_grace_s,
            "silence_s": limits.silence_s,
            "silence_plain_s": limits.silence_plain_s,
            "stuck_s": limits.stuck_s,
            "stuck_offline_s": limits.stuck_offline_s,
        }
        used = {name: known[name] for name in statement.compile().params}
        async with self.ci.forge.database.session() as db:
            return await _read(db, statement, used)


async def _read(db: AsyncSession, statement: TextClause, values: dict[str, Any]) -> Sequence[Any]:
    return (await db.execute(statement, values)).all()
