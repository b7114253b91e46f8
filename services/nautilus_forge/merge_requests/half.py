"""Plugs merge requests into a forge: their routes, what a push means to them, merging by itself."""

from __future__ import annotations

from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import (
    automatic,
)
from nautilus_forge.merge_requests.following import follow


def join(forge: Forge) -> None:
    """Starts nothing before the forge is ready."""

    async def merge_when_ready(merge_request_id: int) -> None:
        await automatic.merge_when_ready(forge, merge_request_id)

    forge.on_ref_change.append(follow)
    forge.merge_when_ready = merge_when_ready
    forge.on_sweep.append(automatic.sweep)
