"""Schedules: finding, checking, changing, and making their pipelines.

Source: GitLab app/models/ci/pipeline_schedule.rb, app/services/ci/pipeline_schedules/*.rb,
app/policies/ci/pipeline_schedule_policy.rb, app/workers/run_pipeline_schedule_worker.rb.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci.model import Variable
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import Pipeline, PipelineSchedule, Project, ScheduleVariable, User
from nautilus_forge.errors import Forbidden, InvalidRecord, NotFound
from nautilus_forge.pipelines import creation, origin
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import ProjectAccess
from nautilus_forge.schedules.cron import InvalidCron, next_run, parse, zone_of

MAX_SCHEDULES = 50
"""Of one project."""
_KEY = re.compile(r"[a-zA-Z0-9_]{1,255}")
_COLUMNS = {"active": "is_active"}


async def find(db: AsyncSession, project_id: int, schedule_id: int) -> PipelineSchedule:
    """Raises `NotFound`."""
    statement = select(PipelineSchedule).where(
        PipelineSchedule.id == schedule_id, PipelineSchedule.project_id == project_id
    )
    found = await db.scalar(statement)
    if found is None:
        raise NotFound("Pipeline Schedule")
    return found


def may_admin(at: ProjectAccess, schedule: PipelineSchedule) -> bool:
    """Delete it, take it over, see its variables: maintainers, and its owner while he may run jobs."""
    return at.can(Ability.ADMIN_PROJECT) or (_is_owner(at, schedule) and at.can(Ability.UPDATE_BUILD))


def require_admin(at: ProjectAccess, schedule: PipelineSchedule) -> None:
    """Raises `Forbidden`."""
    if not may_admin(at, schedule):
        raise Forbidden


async def require_update(db: AsyncSession, at: ProjectAccess, schedule: PipelineSchedule) -> None:
    """Its owner alone, and administrators: pipelines run with the owner's rights. Raises `Forbidden`."""
    is_mine = _is_owner(at, schedule) and at.can(Ability.UPDATE_BUILD)
    if not (is_mine or at.standing.level == Level.ADMIN) or not await _may_run(db, at, schedule.ref):
        raise Forbidden


def _is_owner(at: ProjectAccess, schedule: PipelineSchedule) -> bool:
    return at.user is not None and at.user.id == schedule.owner_id


async def _may_run(db: AsyncSession, at: ProjectAccess, ref: str) -> bool:
    is_tag = ref.startswith("refs/tags/")
    name = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
    return await origin.may_run_on(db, at.project.id, name, is_tag=is_tag, level=at.standing.level)


async def create(ci: CiHalf, db: AsyncSession, at: ProjectAccess, given: dict[str, Any]) -> PipelineSchedule:
    """`given`: parameters of the API by name. Raises `InvalidRecord`."""
    schedule = PipelineSchedule(project_id=at.project.id, owner_id=at.who.require_user().id, inputs={})
    await _assign(ci, at, schedule, given)
    count = select(func.count()).where(PipelineSchedule.project_id == at.project.id)
    if (await db.scalar(count) or 0) >= MAX_SCHEDULES:
        raise InvalidRecord({"base": [f"Maximum number of ci pipeline schedules ({MAX_SCHEDULES}) exceeded"]})
    await _check(db, at, schedule, "create")
    db.add(schedule)
    await db.flush()
    await db.refresh(schedule)
    ci.schedules_changed.set()
    return schedule


async def change(
    ci: CiHalf, db: AsyncSession, at: ProjectAccess, schedule: PipelineSchedule, given: dict[str, Any]
) -> None:
    """Raises `InvalidRecord`; the row then is as it was."""
    with db.no_autoflush:
        await _assign(ci, at, schedule, given)
        await _check(db, at, schedule, "update")
    await db.flush()
    await db.refresh(schedule)
    ci.schedules_changed.set()


async def _assign(ci: CiHalf, at: ProjectAccess, schedule: PipelineSchedule, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and name != "inputs":
            setattr(schedule, _COLUMNS.get(name, name), value.strip() if name == "cron" else value)
    if given.get("ref") is not None:
        found = await origin.find_ref(ci.forge.repositories.git(at.project.id), schedule.ref)
        schedule.ref = found.full_name if found is not None else schedule.ref
    inputs = dict(schedule.inputs)
    for entry in given.get("inputs") or ():
        if entry.get("destroy"):
            inputs.pop(entry["name"], None)
        else:
            inputs[entry["name"]] = entry.get("value")
    schedule.inputs = inputs


async def _check(db: AsyncSession, at: ProjectAccess, schedule: PipelineSchedule, verb: str) -> None:
    """Raises `InvalidRecord`; else the schedule knows when it is due next."""
    problems: dict[str, list[str]] = {}
    if not schedule.description.strip():
        problems["description"] = ["can't be blank"]
    for field, reads in (("cron", parse), ("cron_timezone", zone_of)):
        try:
            reads(getattr(schedule, field))
        except InvalidCron:
            problems[field] = ["syntax is invalid"]
    if not await _may_run(db, at, schedule.ref):
        problems["base"] = [f"The current user is not authorized to {verb} the pipeline schedule"]
    if not problems:
        try:
            now = await _now(db)
            schedule.next_run_at = next_run(schedule.cron, schedule.cron_timezone, now)
        except InvalidCron:
            problems["cron"] = ["syntax is invalid"]
    if problems:
        raise InvalidRecord(problems)


async def _now(db: AsyncSession) -> datetime:
    now = await db.scalar(select(func.now()))
    assert isinstance(now, datetime)
    return now


async def last_pipeline(db: AsyncSession, schedule_id: int) -> Pipeline | None:
    statement = select(Pipeline).where(Pipeline.schedule_id == schedule_id)
    return await db.scalar(statement.order_by(Pipeline.id.desc()).limit(1))


async def variables_of(db: AsyncSession, schedule_id: int) -> Sequence[ScheduleVariable]:
    statement = select(ScheduleVariable).where(ScheduleVariable.schedule_id == schedule_id)
    return (await db.scalars(statement.order_by(ScheduleVariable.id))).all()


async def find_variable(db: AsyncSession, schedule_id: int, key: str) -> ScheduleVariable:
    """Raises `NotFound`."""
    statement = select(ScheduleVariable).where(
        ScheduleVariable.schedule_id == schedule_id, ScheduleVariable.key == key
    )
    found = await db.scalar(statement)
    if found is None:
        raise NotFound("Pipeline Schedule Variable")
    return found


async def create_variable(
    ci: CiHalf, db: AsyncSession, schedule_id: int, key: str, value: str, kind: str
) -> ScheduleVariable:
    """Raises `InvalidRecord`."""
    if not _KEY.fullmatch(key):
        raise InvalidRecord({"key": ["can contain only letters, digits and '_'."]})
    taken = select(ScheduleVariable.id).where(
        ScheduleVariable.schedule_id == schedule_id, ScheduleVariable.key == key
    )
    if await db.scalar(taken) is not None:
        raise InvalidRecord({"key": ["has already been taken"]})
    variable = ScheduleVariable(
        schedule_id=schedule_id, key=key, value=ci.cipher.encrypt(value), variable_type=kind, is_raw=False
    )
    db.add(variable)
    await db.flush()
    return variable


async def make_pipeline(
    ci: CiHalf, db: AsyncSession, schedule: PipelineSchedule, project: Project, user: User, level: Level
) -> Pipeline:
    """In the caller's transaction, with the rights of `user`. Raises `Refused`."""
    git = ci.forge.repositories.git(project.id)
    stored = await variables_of(db, schedule.id)
    given = [
        Variable(
            row.key,
            ci.cipher.decrypt(row.value),
            public=False,
            file=row.variable_type == "file",
            raw=row.is_raw,
        )
        for row in stored
    ]
    source = await origin.source_of(db, git, project, user, level, schedule.ref, "schedule")
    origin.require_variables(project, level, given)
    plan = creation.Plan(source, given, keeps_errors=False, inputs=schedule.inputs, schedule=schedule)
    return await creation.create(ci, db, plan)


__all__ = ["Refused", "change", "create", "find", "make_pipeline"]
