"""Once an hour: memberships that have expired and bots that nobody needs any more are deleted.

Nothing waits for it: an expired membership counts for nothing from its day on.

Source: gitlabhq app/workers/remove_expired_members_worker.rb,
app/workers/resource_access_tokens/inactive_tokens_deletion_cron_worker.rb.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member
from nautilus_forge.forge import Forge
from nautilus_forge.namespaces.level import is_alive
from nautilus_forge.tokens import bots

log = logging.getLogger(__name__)

EVERY_S = 3600.0


async def start(forge: Forge) -> None:
    """A start-up step: sweeps in the background from now on."""
    forge.spawn(_run(forge), "sweep memberships")


async def _run(forge: Forge) -> None:
    while True:
        try:
            async with forge.database.unit_of_work() as db:
                await sweep(db)
        except Exception as error:
            log.warning("expired memberships could not be removed: %s", error)
        await asyncio.sleep(EVERY_S)


async def sweep(db: AsyncSession) -> None:
    gone = await db.scalars(delete(Member).where(~is_alive()).returning(Member.id))
    memberships, idle = len(gone.all()), await bots.sweep(db)
    if memberships or idle:
        log.info("removed %d expired memberships and %d bots without tokens", memberships, idle)
