"""Tells whoever wants to know (`Forge.on_merge_request`) what happened to a merge request."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, User
from nautilus_forge.forge import Forge


async def tell(
    db: AsyncSession,
    forge: Forge,
    merge_request: MergeRequest,
    user: User | None,
    action: str,
    *,
    old_sha: str | None = None,
) -> None:
    """In the transaction in which it happened, once it is written. `action`: see `ports.MergeRequestHappened`."""
    if not forge.on_merge_request:
        return
    await db.flush()
    await db.refresh(merge_request)
    for happened in forge.on_merge_request:
        await happened(db, forge, merge_request=merge_request, user=user, action=action, old_sha=old_sha)
