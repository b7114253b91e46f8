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
    WITH asking AS (
        SELECT * FROM ci_runners WHERE id = ANY(CAST(:runners AS bigint[])) AND is_active ORDER BY id LIMIT 1
    ), counted AS (
        SELECT j.project_id,
            array_agg(j.id ORDER BY j.id) FILTER (
                WHERE w.is_waiting AND j.id <> ALL(CAST(:skipped AS bigint[]))
                  AND (r.run_untagged OR j.tags <> '{}') AND j.tags <@ r.tags
                  AND (r.access_level = 'not_protected' OR j.is_protected)) AS ids,
            count(*) FILTER (WHERE NOT w.is_waiting) AS busy,
            count(*) FILTER (WHERE j.status = 'running' AND j.runner_id IN (
                SELECT id FROM ci_runners WHERE runner_type = 'instance_type')) AS busy_on_instance,
            sum(count(*) FILTER (WHERE w.is_waiting)) OVER () AS queue_size
        FROM ci_jobs j
        CROSS JOIN LATERAL (SELECT j.status = 'pending' AND NOT j.is_ack_awaited AS is_waiting) w
        CROSS JOIN asking r
        WHERE j.status IN ('pending', 'running', 'canceling') AND NOT j.is_external
        GROUP BY j.project_id
    ), first AS MATERIALIZED (
        SELECT of_project.id, counted.busy + of_project.place AS turn, counted.busy_on_instance, counted.queue_size
        FROM counted
        CROSS JOIN asking r
        JOIN projects p ON p.id = counted.project_id
        JOIN namespaces n ON n.id = p.namespace_id
        CROSS JOIN LATERAL unnest(counted.ids[1:CAST(:count AS integer)]) WITH ORDINALITY AS of_project(id, place)
        WHERE p.deleted_at IS NULL AND coalesce(p.attributes->>'builds_access_level', 'enabled') <> 'disabled'
          AND CASE r.runner_type
              WHEN 'instance_type' THEN p.shared_runners_enabled
              WHEN 'project_type' THEN EXISTS (
                  SELECT FROM ci_runner_projects rp WHERE rp.runner_id = r.id AND rp.project_id = p.id)
              ELSE coalesce((p.attributes->>'group_runners_enabled')::boolean, true)
                  AND n.traversal_ids @> ARRAY[r.namespace_id]
              END
        ORDER BY turn, of_project.id LIMIT CAST(:count AS integer)
    )
    SELECT j.id, CAST(first.queue_size AS bigint) AS queue_size, first.busy_on_instance,
        ARRAY(SELECT id FROM ci_runners WHERE id = ANY(CAST(:runners AS bigint[])) AND is_active) AS active
    FROM first JOIN ci_jobs j ON j.id = first.id
    WHERE j.status LIKE 'pending' AND NOT j.is_ack_awaited
    ORDER BY first.turn, j.id
    FOR UPDATE OF j SKIP LOCKED
    """
)
"""Every unfinished job is looked at once, and what is counted is joined by project: the queue may be long while the
planner, whose statistics are of another hour, takes it for empty. For the same reason the jobs found are locked by
`LIKE`, which no index on the status serves: their ids lead to them.
"""


@dataclass(frozen=True)
class Picked:
    """A job for a runner that asked, locked in the transaction.

    `queue_size`: jobs that wait after it. `busy_on_instance`: jobs of its project that run on instance runners.
    """

    ask: Ask
    job_id: int
    queue_size: int
    busy_on_instance: int


async def pick(db: AsyncSession, asks: Sequence[Ask], skipped: Iterable[int]) -> list[Picked]:
    """At most one job for each; who is not in the answer gets none. Jobs in `skipped` are left where they are."""
    found: list[Picked] = []
    taken = set(skipped)
    for alike in _alike(asks):
        runners = [ask.runner.id for ask in alike]
        rows = (
            await db.execute(_PICK, {"runners": runners, "skipped": sorted(taken), "count": len(alike)})
        ).all()
        active = set(rows[0].active) if rows else set()
        for ask, row in zip((ask for ask in alike if ask.runner.id in active), rows, strict=False):
            found.append(Picked(ask, row.id, row.queue_size - len(found) - 1, row.busy_on_instance))
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
