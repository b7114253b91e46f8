"""Environments that are stopped by time, or because their branch is gone.

Source: GitLab app/workers/environments/auto_stop_worker.rb, app/services/environments/stop_service.rb
(`execute_for_branch`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Project, User
from nautilus_forge.environments import service
from nautilus_forge.forge import Forge
from nautilus_forge.ports import RefChange

log = logging.getLogger(__name__)

_EXPIRED = text(
    """
    SELECT id FROM environments WHERE state = 'available' AND auto_stop_at <= now()
    ORDER BY auto_stop_at LIMIT 100
    """
)
_STILL_EXPIRED = text(
    """
    SELECT id, auto_stop_setting FROM environments
    WHERE id = :id AND state = 'available' AND auto_stop_at <= now()
    """
)
"""Not locked: pipelines are locked before environments, as where a job ends."""
_FORGET_TIME = text("UPDATE environments SET auto_stop_at = NULL WHERE id = :id")
_OF_BRANCH = text(
    """
    SELECT e.id FROM environments e JOIN LATERAL (
        SELECT ref, is_tag FROM deployments d WHERE d.environment_id = e.id AND d.status = 'success'
        ORDER BY d.id DESC LIMIT 1) last ON true
    WHERE e.project_id = :project AND e.state = 'available' AND last.ref = :branch AND NOT last.is_tag
    """
)


async def stop_expired(ci: CiHalf) -> None:
    """Each in its own transaction, as whoever deployed last."""
    async with ci.forge.database.session() as db:
        expired = (await db.execute(_EXPIRED)).scalars().all()
    for environment_id in expired:
        async with ci.forge.database.unit_of_work() as db:
            row = (await db.execute(_STILL_EXPIRED, {"id": environment_id})).first()
            if row is None:
                continue
            if row.auto_stop_setting == "with_action" and not await service.has_stop_job(db, row.id):
                await db.execute(_FORGET_TIME, {"id": row.id})
                continue
            await service.stop(ci, db, row.id, None)
            log.info("environment %s was stopped: its time is over", row.id)


async def follow(
    db: AsyncSession,
    forge: Forge,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> None:
    """Implements `ports.FollowRefChange`: a branch that is deleted takes its environments with it."""
    if not change.is_deletion or change.is_tag:
        return
    found = await db.execute(_OF_BRANCH, {"project": project.id, "branch": change.short_ref})
    for environment_id in found.scalars().all():
        await service.stop(forge.ci, db, environment_id, user.id if user is not None else None)
