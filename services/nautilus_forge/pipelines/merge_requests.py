"""Pipelines of merge requests.

A merge request between two branches of a project has its pipelines there, at `refs/merge-requests/<iid>/head`. That of
a fork has them in the fork, at the branch: with the fork's variables and runners, never with the target's. Neither
counts as a protected ref.

Source: GitLab app/services/merge_requests/create_pipeline_service.rb, doc/ci/pipelines/merge_request_pipelines.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import MergeRequest, Pipeline, Project, User
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.pipelines import creation, service
from nautilus_forge.pipelines.configuration import OfMergeRequest, Source
from nautilus_forge.pipelines.entities import pipeline_basic, pipeline_detail
from nautilus_forge.pipelines.merge_request_variables import newest_version
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.ports import ZERO_SHA

KIND = "merge_request_event"


async def create_for_merge_request(
    ci: CiHalf, db: AsyncSession, *, merge_request: MergeRequest, user: User, is_asked: bool
) -> int | None:
    """Implements `ports.CreateForMergeRequest`."""
    source = await _source(db, merge_request, user)
    if source is None:
        return None
    try:
        pipeline = await creation.create(ci, db, creation.Plan(source))
    except Refused as refused:
        if is_asked:
            raise InvalidRecord({"base": str(refused).split("\n")}) from refused
        return None
    return pipeline.id


async def _source(db: AsyncSession, merge_request: MergeRequest, user: User) -> Source | None:
    """None where there is nothing to run: no source project or branch any more, or no commits of its own."""
    project = await db.get(Project, merge_request.source_project_id or 0)
    version = await newest_version(db, merge_request.id)
    has_commits = version is not None and version.commit_count > 0
    if project is None or project.deleted_at is not None or merge_request.sha is None or not has_commits:
        return None
    is_own = merge_request.source_project_id == merge_request.project_id
    ref = f"refs/merge-requests/{merge_request.iid}/head" if is_own else merge_request.source_branch
    of = OfMergeRequest(
        merge_request.id, merge_request.source_branch, version.base_sha if version is not None else None
    )
    return Source(project, user, ref, False, merge_request.sha, ZERO_SHA, KIND, of)


async def show_pipelines(
    ci: CiHalf, db: AsyncSession, pipeline_ids: Sequence[int], *, detailed: bool = False
) -> dict[int, dict[str, Any]]:
    """Implements `ports.ShowPipelines`; in the order of the ids."""
    rows = await db.scalars(
        select(Pipeline).where(Pipeline.id.in_(pipeline_ids)).execution_options(populate_existing=True)
    )
    by_id = {pipeline.id: pipeline for pipeline in rows}
    return {
        pipeline_id: await _shown(ci, db, by_id[pipeline_id], detailed=detailed)
        for pipeline_id in pipeline_ids
        if pipeline_id in by_id
    }


async def _shown(ci: CiHalf, db: AsyncSession, pipeline: Pipeline, *, detailed: bool) -> dict[str, Any]:
    settings = ci.forge.settings
    project = await db.get_one(Project, pipeline.project_id)
    if not detailed:
        return pipeline_basic(settings, project, pipeline)
    user = await db.get(User, pipeline.user_id) if pipeline.user_id is not None else None
    known = await service.of_jobs(db, pipeline.id)
    return pipeline_detail(settings, project, pipeline, user, known)
