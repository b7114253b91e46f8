"""Tells whoever wants to know (`Forge.on_merge_request`) what happened to a merge request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, User
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import people


async def tell(
    db: AsyncSession,
    forge: Forge,
    merge_request: MergeRequest,
    user: User | None,
    action: str,
    *,
    old_sha: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> None:
    """In the transaction in which it happened, once it is written. `action`: see `ports.MergeRequestHappened`.

    `before`: what `state_of` said before an update.
    """
    if not forge.on_merge_request:
        return
    await db.flush()
    await db.refresh(merge_request)
    changes = await _changes(db, merge_request, before)
    for happened in forge.on_merge_request:
        await happened(
            db,
            forge,
            merge_request=merge_request,
            user=user,
            action=action,
            old_sha=old_sha,
            changes=changes,
        )


async def state_of(db: AsyncSession, merge_request: MergeRequest) -> dict[str, Any]:
    """What an update may change, by GitLab's names."""
    cast = await people.cast(db, merge_request)
    return {
        "title": merge_request.title,
        "description": merge_request.description,
        "target_branch": merge_request.target_branch,
        "draft": merge_request.is_draft,
        "labels": list(merge_request.labels),
        "assignee_ids": [user.id for user in cast.of(people.ASSIGNEE)],
        "reviewer_ids": [user.id for user in cast.of(people.REVIEWER)],
    }


async def _changes(
    db: AsyncSession, merge_request: MergeRequest, before: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    if before is None:
        return {}
    now = await state_of(db, merge_request)
    return {name: (before[name], value) for name, value in now.items() if before[name] != value}
