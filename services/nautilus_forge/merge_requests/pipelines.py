"""The pipelines that belong to a merge request.

Source: gitlabhq app/finders/ci/pipelines_for_merge_request_finder.rb.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import MergeRequest, MergeRequestVersion, Pipeline
from nautilus_forge.merge_requests.show import may_read_pipelines

_MOST = 1000


async def of(db: AsyncSession, who: Principal, merge_request: MergeRequest) -> list[int]:
    """Ids: its own first, then those of the source branch for a commit that was its head; newest first.

    Those of a project whose pipelines `who` may not read are left out.
    """
    own = (Pipeline.merge_request_id == merge_request.id).is_(True)
    heads = select(MergeRequestVersion.head_sha).where(
        MergeRequestVersion.merge_request_id == merge_request.id, MergeRequestVersion.head_sha.is_not(None)
    )
    of_branch = (
        (Pipeline.project_id == merge_request.source_project_id)
        & (Pipeline.ref == merge_request.source_branch)
        & Pipeline.is_tag.is_(False)
        & Pipeline.sha.in_(heads)
    )
    statement = select(Pipeline.id, Pipeline.project_id).where(own | of_branch)
    rows = (await db.execute(statement.order_by(own.desc(), Pipeline.id.desc()).limit(_MOST))).all()
    may = {
        project_id: await may_read_pipelines(db, who, project_id)
        for project_id in {row.project_id for row in rows}
    }
    return [row.id for row in rows if may[row.project_id]]
