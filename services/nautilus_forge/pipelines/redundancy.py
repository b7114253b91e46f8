"""A new commit makes the pipelines of the branch's older commits redundant.

Source: doc/ci/pipelines/settings.md "Auto-cancel redundant pipelines", doc/ci/yaml/_index.md
`workflow:auto_cancel:on_new_commit`.
"""

from __future__ import annotations

from sqlalchemy import text

from nautilus_forge.db.engine import Database
from nautilus_forge.jobs.transitions import cancel_all
from nautilus_forge.pipelines.progress import lock_pipeline

_OLDER = text(
    """
    SELECT pl.id FROM ci_pipelines n
    JOIN ci_pipelines pl ON pl.project_id = n.project_id AND pl.source = n.source
        AND pl.merge_request_id IS NOT DISTINCT FROM n.merge_request_id
    JOIN projects p ON p.id = pl.project_id
    WHERE n.id = :newest AND pl.project_id = :project AND pl.ref = :ref AND NOT pl.is_tag AND pl.id < :newest
      AND pl.source IN ('push', 'merge_request_event') AND pl.sha <> n.sha
      AND pl.status NOT IN ('success', 'failed', 'canceled', 'skipped', 'canceling')
      AND coalesce(p.attributes->>'auto_cancel_pending_pipelines', 'enabled') = 'enabled'
    ORDER BY pl.id
    """
)
_HAS_STARTED_UNINTERRUPTIBLE = text(
    """
    SELECT EXISTS (SELECT FROM ci_jobs WHERE pipeline_id = :pipeline AND NOT is_retried
        AND started_at IS NOT NULL AND NOT coalesce((definition->>'interruptible')::boolean, false))
    """
)


async def cancel_older(database: Database, newest: int, project_id: int, ref: str, mode: str) -> None:
    """`mode`: conservative (all, as long as no job that may not be interrupted has started), interruptible
    (jobs that may be interrupted), none.
    """
    if mode == "none":
        return
    async with database.session() as db:
        found = await db.execute(_OLDER, {"project": project_id, "ref": ref, "newest": newest})
        older = list(found.scalars())
    for pipeline in older:
        async with database.unit_of_work() as db:
            if not await lock_pipeline(db, pipeline):
                continue
            started = await db.scalar(_HAS_STARTED_UNINTERRUPTIBLE, {"pipeline": pipeline})
            if mode == "interruptible" or not started:
                await cancel_all(db, pipeline, only_interruptible=mode == "interruptible")
