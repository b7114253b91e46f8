"""Which pending jobs the runners that ask get: from the projects that have the fewest at work, the oldest first.

Source: GitLab app/services/ci/queue/build_queue_service.rb, app/services/ci/queue/pending_builds_strategy.rb.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.jobs.asks import Ask
from nautilus_forge.runners.identity import RunnerIdentity

_PICK = text(
    """
    WITH busy AS (
        SELECT project_id, count(*) AS jobs FROM ci_jobs
        WHERE (status IN ('running', 'canceling') OR status = 'pending' AND is_ack_awaited) AND NOT is_external
        GROUP BY project_id
    ), allowed AS (
        SELECT j.id, coalesce(busy.jobs, 0) + row_number() OVER (PARTITION BY j.project_id ORDER BY j.id) AS turn
        FROM ci_jobs j
        JOIN ci_runners r ON r.id = :runner
        JOIN projects p ON p.id = j.project_id
        JOIN namespaces n ON n.id = p.namespace_id
        LEFT JOIN busy ON busy.project_id = j.project_id
        WHERE j.status = 'pending' AND NOT j.is_ack_awaited AND NOT j.is_external
          AND j.id <> ALL(CAST(:skipped AS bigint[]))
          AND p.deleted_at IS NULL AND coalesce(p.attributes->>'builds_access_level', 'enabled') <> 'disabled'
          AND (r.run_untagged OR j.tags <> '{}') AND j.tags <@ r.tags
          AND (r.access_level = 'not_protected' OR j.is_protected)
          AND CASE r.runner_type
              WHEN 'instance_type' THEN p.shared_runners_enabled
              WHEN 'project_type' THEN EXISTS (
                  SELECT FROM ci_runner_projects rp WHERE rp.runner_id = r.id AND rp.project_id = j.project_id)
              ELSE coalesce((p.attributes->>'group_runners_enabled')::boolean, true)
                  AND n.traversal_ids @> ARRAY[r.namespace_id]
              END
    ), first AS (SELECT id, turn FROM allowed ORDER BY turn, id LIMIT :count)
    SELECT j.id, (SELECT count(*) FROM ci_jobs q
            WHERE q.status = 'pending' AND NOT q.is_ack_awaited AND NOT q.is_external) AS queue_size
    FROM ci_jobs j JOIN first ON first.id = j.id
    WHERE j.status = 'pending' AND NOT j.is_ack_awaited
    ORDER BY first.turn, j.id
    FOR UPDATE OF j SKIP LOCKED
    """
)
_ACTIVE = text("SELECT id FROM ci_runners WHERE id = ANY(CAST(:ids AS bigint[])) AND is_active")


@dataclass(frozen=True)
class Picked:
    """A job for a runner that asked, locked in the transaction. `queue_size`: jobs that wait after it."""

    ask: Ask
    job_id: int
    queue_size: int


async def pick(db: AsyncSession, asks: Sequence[Ask], skipped: Iterable[int]) -> list[Picked]:
    """At most one job for each; who is not in the answer gets none. Jobs in `skipped` are left where they are."""
    found: list[Picked] = []
    taken = set(skipped)
    active = set((await db.scalars(_ACTIVE, {"ids": [ask.runner.id for ask in asks]})).all())
    for alike in _alike([ask for ask in asks if ask.runner.id in active]):
        values = {"runner": alike[0].runner.id, "skipped": sorted(taken), "count": len(alike)}
        rows = (await db.execute(_PICK, values)).all()
        for ask, row in zip(alike, rows, strict=False):
            found.append(Picked(ask, row.id, row.queue_size - len(found) - 1))
            taken.add(row.id)
    return found


def _alike(asks: Sequence[Ask]) -> list[list[Ask]]:
    """Those together that may take the same jobs."""
    groups: dict[Hashable, list[Ask]] = {}
    for ask in asks:
        groups.setdefault(_kind(ask.runner), []).append(ask)
    return list(groups.values())


def _kind(runner: RunnerIdentity) -> Hashable:
    """Runners of the whole instance with the same settings take the same jobs; all others stand alone."""
    if runner.runner_type != "instance_type":
        return runner.id
    wants = runner.wants
    return (wants.tags, wants.run_untagged, wants.only_protected)
