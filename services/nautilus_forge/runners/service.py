"""Making and changing runners, and the registration tokens.

Source: doc/api/{runners,users}.md, GitLab app/services/ci/runners/*.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import (
    CiInstance,
    CiNamespace,
    CiProject,
    Namespace,
    Project,
    Runner,
    RunnerProject,
)
from nautilus_forge.errors import InvalidRecord
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.jobs.wakeups import RunnerChanged, tell
from nautilus_forge.runners.errors import UnknownRunner
from nautilus_forge.runners.identity import CREATED_TOKEN, REGISTERED_TOKEN, REGISTRATION_TOKEN
from nautilus_forge.settings import Settings, read_secret
from nautilus_forge.tokens import secret

MAX_TAGS = 50
_BUSY = text("SELECT id FROM ci_jobs WHERE runner_id = :runner AND status IN ('running', 'canceling')")


async def ensure_registration_token(db: AsyncSession, settings: Settings) -> None:
    """At the first start the instance's registration token is the one in the file, else one that nobody knows."""
    given = read_secret(settings.registration_token_file)
    token = given.get_secret_value() if given is not None else secret.generate(REGISTRATION_TOKEN, 20)
    statement = insert(CiInstance).values(id=1, registration_digest=secret.digest(token))
    await db.execute(statement.on_conflict_do_nothing())


async def reset_instance_token(db: AsyncSession) -> str:
    token = secret.generate(REGISTRATION_TOKEN, 20)
    row = await db.get(CiInstance, 1, with_for_update=True)
    assert row is not None
    row.registration_digest = secret.digest(token)
    return token


async def reset_project_token(db: AsyncSession, project_id: int) -> str:
    return await _reset_token_of(db, CiProject, {"project_id": project_id})


async def reset_group_token(db: AsyncSession, group_id: int) -> str:
    return await _reset_token_of(db, CiNamespace, {"namespace_id": group_id})


async def _reset_token_of(
    db: AsyncSession, table: type[CiProject | CiNamespace], owner: dict[str, int]
) -> str:
    token = secret.generate(REGISTRATION_TOKEN, 20)
    values = {"registration_digest": secret.digest(token)}
    statement = insert(table).values(**owner, **values)
    await db.execute(statement.on_conflict_do_update(index_elements=list(owner), set_=values))
    return token


async def register(db: AsyncSession, token: str, given: dict[str, Any]) -> tuple[Runner, str]:
    """A runner by registration token, and its own token. Raises `UnknownRunner`, `InvalidRecord`."""
    digest = secret.digest(token)
    instance = await db.get(CiInstance, 1)
    if instance is not None and secret.matches(token, instance.registration_digest):
        return await create(db, "instance_type", given, registration_type="registration_token")
    project_id = await db.scalar(
        select(CiProject.project_id)
        .join(Project, Project.id == CiProject.project_id)
        .where(CiProject.registration_digest == digest, Project.deleted_at.is_(None))
    )
    if project_id is not None:
        return await create(
            db, "project_type", given, registration_type="registration_token", project_id=project_id
        )
    group_id = await db.scalar(
        select(CiNamespace.namespace_id)
        .join(Namespace, Namespace.id == CiNamespace.namespace_id)
        .where(CiNamespace.registration_digest == digest, Namespace.deleted_at.is_(None))
    )
    if group_id is None:
        raise UnknownRunner
    return await create(
        db, "group_type", given, registration_type="registration_token", namespace_id=group_id
    )


async def create(
    db: AsyncSession,
    runner_type: str,
    given: dict[str, Any],
    *,
    registration_type: str,
    project_id: int | None = None,
    namespace_id: int | None = None,
    creator_id: int | None = None,
) -> tuple[Runner, str]:
    """Raises `InvalidRecord`."""
    prefix = CREATED_TOKEN if registration_type == "authenticated_user" else REGISTERED_TOKEN
    token = secret.generate(prefix, 20)
    runner = Runner(
        runner_type=runner_type,
        registration_type=registration_type,
        namespace_id=namespace_id,
        creator_id=creator_id,
        token_digest=secret.digest(token),
        is_active=True,
        is_locked=False,
        run_untagged=True,
        access_level="not_protected",
        tags=[],
    )
    assign(runner, given)
    db.add(runner)
    await db.flush()
    if project_id is not None:
        db.add(RunnerProject(runner_id=runner.id, project_id=project_id))
        await db.flush()
    await db.refresh(runner)
    return runner, token


def assign(runner: Runner, given: dict[str, Any]) -> None:
    """Sets what is given of the API's parameters. Raises `InvalidRecord`."""
    for name, column in (
        ("description", "description"),
        ("maintenance_note", "maintenance_note"),
        ("locked", "is_locked"),
        ("run_untagged", "run_untagged"),
        ("access_level", "access_level"),
        ("active", "is_active"),
    ):
        if given.get(name) is not None:
            setattr(runner, column, given[name])
    if given.get("paused") is not None:
        runner.is_active = not given["paused"]
    if given.get("tag_list") is not None:
        runner.tags = sorted(dict.fromkeys(given["tag_list"]))
    if "maximum_timeout" in given:
        runner.maximum_timeout_s = given["maximum_timeout"]
    _check(runner)


def _check(runner: Runner) -> None:
    problems: dict[str, list[str]] = {}
    if len(runner.tags) > MAX_TAGS:
        problems["tags_list"] = [f"Too many tags specified. Please limit the number of tags to {MAX_TAGS}"]
    elif not runner.tags and not runner.run_untagged:
        problems["tags_list"] = ["can not be empty when runner is not allowed to pick untagged jobs"]
    if runner.maximum_timeout_s is not None and not 600 <= runner.maximum_timeout_s <= 1 << 31:
        problems["maximum_timeout"] = ["needs to be at least 10 minutes"]
    if len(runner.description or "") > 1024:
        problems["description"] = ["is too long (maximum is 1024 characters)"]
    if len(runner.maintenance_note or "") > 1024:
        problems["maintenance_note"] = ["is too long (maximum is 1024 characters)"]
    if problems:
        raise InvalidRecord(problems)


async def change(db: AsyncSession, runner: Runner, given: dict[str, Any]) -> None:
    """Raises `InvalidRecord`. Requests that the runner holds begin anew."""
    assign(runner, given)
    await db.flush()
    await tell(db, RunnerChanged(runner.id))


async def delete(db: AsyncSession, runner: Runner) -> None:
    runner_id = runner.id
    await db.delete(runner)
    await db.flush()
    await tell(db, RunnerChanged(runner_id))


async def reset_token(db: AsyncSession, runner: Runner) -> str:
    """The old token is worth nothing from now on."""
    prefix = CREATED_TOKEN if runner.registration_type == "authenticated_user" else REGISTERED_TOKEN
    token = secret.generate(prefix, 20)
    runner.token_digest = secret.digest(token)
    await db.flush()
    await tell(db, RunnerChanged(runner.id))
    return token


async def projects_of(db: AsyncSession, runner_id: int) -> Sequence[Project]:
    """Projects that a project runner serves, the owner first."""
    statement = (
        select(Project)
        .join(RunnerProject, RunnerProject.project_id == Project.id)
        .where(RunnerProject.runner_id == runner_id, Project.deleted_at.is_(None))
        .order_by(RunnerProject.id)
    )
    return (await db.scalars(statement)).all()


async def groups_of(db: AsyncSession, runner: Runner) -> Sequence[Namespace]:
    group = await db.get(Namespace, runner.namespace_id) if runner.namespace_id is not None else None
    return [group] if group is not None else []


async def is_busy(db: AsyncSession, runner_id: int) -> bool:
    return (await db.execute(_BUSY, {"runner": runner_id})).first() is not None


def with_status(status: str, limits: CiLimits) -> ColumnElement[bool]:
    """The condition for a `status` of the API: active, paused, online, offline, stale, never_contacted."""
    age = func.extract("epoch", func.now() - Runner.contacted_at)
    lifetime = func.extract("epoch", func.now() - Runner.created_at)
    never = Runner.contacted_at.is_(None)
    match status:
        case "active":
            return Runner.is_active.is_(True)
        case "paused":
            return Runner.is_active.is_(False)
        case "online":
            return age <= limits.online_s
        case "offline":
            return and_(age > limits.online_s, age <= limits.stale_s)
        case "stale":
            return or_(age > limits.stale_s, and_(never, lifetime > limits.stale_s))
        case _:
            return and_(never, lifetime <= limits.stale_s)
