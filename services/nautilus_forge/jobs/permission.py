"""What the ref, the job's owner and its configuration add to somebody's level.

Source: GitLab app/policies/ci/{build,pipeline}_policy.rb, doc/ci/yaml/_index.md `artifacts:access`.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Job, Pipeline
from nautilus_forge.errors import Forbidden
from nautilus_forge.pipelines import origin
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import ProjectAccess

_READERS = {"all": Level.NONE, "developer": Level.DEVELOPER, "maintainer": Level.MAINTAINER}


async def require_ref(db: AsyncSession, at: ProjectAccess, pipeline: Pipeline) -> None:
    """On a protected ref only those who may push or merge there start, retry and cancel. Raises `Forbidden`."""
    level = at.standing.level
    if not await origin.may_run_on(db, at.project.id, pipeline.ref, is_tag=pipeline.is_tag, level=level):
        raise Forbidden


async def require_update(db: AsyncSession, at: ProjectAccess, job: Job) -> None:
    """Raises `Forbidden`."""
    await require_ref(db, at, await db.get_one(Pipeline, job.pipeline_id))


async def require_erase(db: AsyncSession, at: ProjectAccess, job: Job) -> None:
    """Maintainers; others only what they started themselves on a ref that is not protected. Raises `Forbidden`."""
    if at.can(Ability.ADMIN_PROJECT):
        return
    is_own = at.user is not None and at.user.id == job.user_id
    if not is_own or job.is_protected:
        raise Forbidden


def require_artifacts(at: ProjectAccess, job: Job) -> None:
    """Whoever `artifacts:access` (or `artifacts:public`) of the job lets read them. Raises `Forbidden`."""
    declared = job.definition.get("artifacts") or {}
    access = declared.get("access") or ("developer" if declared.get("public") is False else "all")
    limit = _READERS.get(access)
    if limit is None or at.standing.level < limit:
        raise Forbidden
