"""Trigger tokens: finding, making, and what they make.

Source: GitLab app/models/ci/trigger.rb, app/services/ci/pipeline_trigger_service.rb, app/policies/ci/trigger_policy.rb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import Variable
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Pipeline, Project, Trigger, User
from nautilus_forge.errors import NotFound, Unauthorized
from nautilus_forge.jobs.authorize import resolve_job_token
from nautilus_forge.pipelines import creation, origin
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Level
from nautilus_forge.projects.access import level_of
from nautilus_forge.projects.job_reach import reach_of
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.tokens import secret
from nautilus_forge.users.entities import user_basic

PREFIX = "glptt-"
_PAYLOAD = "TRIGGER_PAYLOAD"
_SHOWN_CHARS = 4


async def find(db: AsyncSession, project_id: int, trigger_id: int) -> Trigger:
    """Raises `NotFound`."""
    statement = select(Trigger).where(Trigger.id == trigger_id, Trigger.project_id == project_id)
    found = await db.scalar(statement)
    if found is None:
        raise NotFound
    return found


async def create(
    ci: CiHalf, db: AsyncSession, project_id: int, owner: User, description: str, expires_at: datetime | None
) -> Trigger:
    token = secret.generate(PREFIX, 20)
    trigger = Trigger(
        project_id=project_id,
        owner_id=owner.id,
        description=description,
        token=ci.cipher.encrypt(token),
        token_digest=secret.digest(token),
        expires_at=expires_at,
    )
    db.add(trigger)
    await db.flush()
    await db.refresh(trigger)
    return trigger


def shown(
    ci: CiHalf, settings: Settings, trigger: Trigger, owner: User | None, viewer: User | None
) -> dict[str, Any]:
    """Its owner sees the whole token, others its first characters. Source: lib/api/entities/trigger.rb."""
    token = ci.cipher.decrypt(trigger.token)
    is_own = viewer is not None and viewer.id == trigger.owner_id
    return {
        "id": trigger.id,
        "token": token if is_own else token.removeprefix(PREFIX)[:_SHOWN_CHARS],
        "description": trigger.description,
        "created_at": timestamp(trigger.created_at),
        "updated_at": timestamp(trigger.updated_at),
        "last_used": timestamp(trigger.last_used_at),
        "expires_at": timestamp(trigger.expires_at),
        "owner": user_basic(settings, owner) if owner is not None else None,
    }


async def fire(
    ci: CiHalf, db: AsyncSession, project: Project, token: str, ref: str, params: Mapping[str, Any]
) -> Pipeline:
    """The pipeline that a trigger's or a running job's token makes, with the rights of whose token it is.

    `params`: all that the client sent but the token; jobs get it as the file `TRIGGER_PAYLOAD`.
    Raises `NotFound` (no such token, or one of another project), `Refused`.
    """
    user, kind, trigger = await _behind(db, project, token)
    level = await level_of(db, user, project)
    given = [Variable(key, value, public=False) for key, value in params["variables"].items()]
    git = ci.forge.repositories.git(project.id)
    source = await origin.source_of(db, git, project, user, level, ref, kind)
    origin.require_variables(project, level, given)
    payload = Variable(_PAYLOAD, orjson.dumps(dict(params)).decode(), public=False, file=True)
    plan = creation.Plan(
        source,
        [*given, payload],
        keeps_errors=False,
        inputs=params.get("inputs") or {},
        trigger_id=trigger.id if trigger is not None else None,
    )
    return await creation.create(ci, db, plan)


async def _behind(db: AsyncSession, project: Project, token: str) -> tuple[User, str, Trigger | None]:
    """Whose token it is, the source of its pipelines, and the trigger where it is one's."""
    trigger = await db.scalar(
        select(Trigger).where(
            Trigger.token_digest == secret.digest(token),
            Trigger.expires_at.is_(None) | (Trigger.expires_at > func.now()),
        )
    )
    if trigger is not None:
        if trigger.project_id != project.id:
            raise NotFound
        trigger.last_used_at = await db.scalar(select(func.now()))
        return await _active(db, trigger.owner_id), "trigger", trigger
    job = await resolve_job_token(db, token)
    if job is None or await reach_of(db, job.project_id, project.id) == "other":
        raise NotFound
    user = await _active(db, job.user_id)
    if await level_of(db, user, project) < Level.GUEST:
        raise NotFound
    return user, "pipeline", None


async def _active(db: AsyncSession, user_id: int) -> User:
    """Raises `Unauthorized` for somebody who is blocked."""
    user = await db.get(User, user_id)
    if user is None or user.state != "active":
        raise Unauthorized
    return user


__all__ = ["Refused", "create", "find", "fire", "shown"]


async def owners_of(db: AsyncSession, triggers: Sequence[Trigger]) -> dict[int, User]:
    ids = {trigger.owner_id for trigger in triggers}
    return {user.id: user for user in await db.scalars(select(User).where(User.id.in_(ids)))}
