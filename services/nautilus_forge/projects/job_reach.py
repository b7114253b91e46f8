"""How far a job's token reaches: its own project, and those that let its project in.

Source: GitLab app/models/ci/job_token/{scope,allowlist}.rb, doc/ci/jobs/ci_job_token.md.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_IS_LET_IN = text(
    """
    WITH RECURSIVE above AS (
        SELECT n.id, n.parent_id FROM namespaces n JOIN projects p ON p.namespace_id = n.id WHERE p.id = :source
        UNION ALL SELECT n.id, n.parent_id FROM namespaces n JOIN above ON n.id = above.parent_id
    )
    SELECT EXISTS (SELECT FROM ci_projects WHERE project_id = :target AND NOT is_job_token_limited)
        OR EXISTS (SELECT FROM ci_job_token_allowances a WHERE a.project_id = :target
                   AND (a.source_project_id = :source OR a.source_namespace_id IN (SELECT id FROM above)))
    """
)


async def reach_of(db: AsyncSession, source_project_id: int, target_project_id: int) -> str:
    """ "own", "allowed" or "other" (`policy.Standing.job`) for jobs of the one project in the other."""
    if source_project_id == target_project_id:
        return "own"
    values = {"source": source_project_id, "target": target_project_id}
    return "allowed" if await db.scalar(_IS_LET_IN, values) else "other"
