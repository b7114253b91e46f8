"""Plugs the feed of events into a forge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func

from nautilus_forge.db.models import Event
from nautilus_forge.events import recording
from nautilus_forge.forge import Forge

KEPT_FOR = timedelta(days=3 * 365)
"""Source: gitlabhq app/workers/prune_old_events_worker.rb."""
_PRUNE_EVERY = timedelta(days=1)


def join(forge: Forge) -> None:
    """Nothing is started before the forge is ready."""
    forge.on_ref_change.append(recording.follow_ref)
    forge.on_merge_request.append(recording.follow_merge_request)
    forge.on_merge_request_note.append(recording.follow_note)
    forge.on_commit_note.append(recording.follow_commit_note)
    pruned_at = datetime.min.replace(tzinfo=UTC)

    async def prune(forge: Forge) -> None:
        nonlocal pruned_at
        now = datetime.now(UTC)
        if now - pruned_at < _PRUNE_EVERY:
            return
        pruned_at = now
        async with forge.database.unit_of_work() as db:
            await db.execute(delete(Event).where(Event.created_at < func.now() - KEPT_FOR))

    forge.on_sweep.append(prune)
