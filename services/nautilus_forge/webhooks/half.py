"""Plugs webhooks into a forge: their routes, what they hear of, the work that sends."""

from __future__ import annotations

from nautilus_forge.forge import Forge
from nautilus_forge.webhooks import outbox


def join(forge: Forge) -> None:
    """Nothing is started before the forge is ready."""
    from nautilus_forge.webhooks.worker import WebhookWorker

    forge.on_ref_change.append(outbox.follow_ref)
    forge.on_merge_request.append(outbox.follow_merge_request)
    forge.on_merge_request_note.append(outbox.follow_note)
    forge.on_commit_note.append(outbox.follow_commit_note)
    forge.webhooks = WebhookWorker(forge)

    async def start(forge: Forge) -> None:
        if not forge.webhooks.is_started:
            forge.webhooks.is_started = True
            forge.spawn(forge.webhooks.run(), "webhooks")

    forge.on_ready.append(start)
