"""Merging once the pipeline has succeeded: asked for by `auto_merge`, done by the news that a pipeline is over.

The news may be missed: the sweep of `repository.updates` looks too.

Source: gitlabhq app/services/auto_merge/merge_when_checks_pass_service.rb.
"""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.errors import ForgeError
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import accepting
from nautilus_forge.merge_requests.mergeability import can_be_merged_by, check
from nautilus_forge.merge_requests.params import Accept
from nautilus_forge.projects.attributes import attribute

log = logging.getLogger(__name__)

_MOST_AT_A_TIME = 1000


async def merge_when_ready(forge: Forge, merge_request_id: int) -> None:
    """Merges it if it was asked for and nothing stands in the way; why it could not is its `merge_error`."""
    async with forge.database.unit_of_work() as db:
        statement = select(MergeRequest).where(MergeRequest.id == merge_request_id)
        merge_request = await db.scalar(statement.with_for_update(key_share=True))
        if merge_request is None or merge_request.auto_merge is None or merge_request.state != "opened":
            return
        try:
            await _merge(db, forge, merge_request)
        except ForgeError as error:
            log.warning("merge request %d could not be merged by itself: %s", merge_request_id, error)
            await db.rollback()
            await _note(db, merge_request_id, str(error))


async def _merge(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> None:
    wanted = merge_request.auto_merge or {}
    user = await db.get(User, merge_request.merge_user_id) if merge_request.merge_user_id else None
    state = await check(db, forge, merge_request)
    may = (
        user is not None
        and user.state == "active"
        and await can_be_merged_by(db, user, merge_request)
        and state.source == merge_request.sha == wanted.get("sha")
    )
    if not may or user is None:
        await accepting.cancel_automatic(db, merge_request)
        return
    project = await db.get_one(Project, merge_request.project_id)
    passed = {None, "success"} | (
        {"skipped"} if attribute(project, "allow_merge_on_skipped_pipeline") else set()
    )
    if state.pipeline_status not in passed or not state.is_mergeable:
        return
    params = Accept(
        merge_commit_message=wanted.get("commit_message"),
        should_remove_source_branch=wanted.get("should_remove_source_branch"),
    )
    await accepting.merge_now(db, forge, user, merge_request, state, params)


async def _note(db: AsyncSession, merge_request_id: int, reason: str) -> None:
    merge_request = await db.get(MergeRequest, merge_request_id, populate_existing=True)
    if merge_request is not None and merge_request.state == "opened":
        merge_request.merge_error = reason
        merge_request.auto_merge = None


async def sweep(forge: Forge) -> None:
    """Those whose news was missed."""
    async with forge.database.session() as db:
        waiting = select(MergeRequest.id).where(
            MergeRequest.auto_merge.is_not(None), MergeRequest.state == "opened"
        )
        ids = (await db.scalars(waiting.order_by(MergeRequest.id).limit(_MOST_AT_A_TIME))).all()
    for merge_request_id in ids:
        await merge_when_ready(forge, merge_request_id)
