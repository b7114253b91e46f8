"""Runners as people manage them.

Source: doc/api/runners.md, doc/api/users.md ("Create a runner linked to a user"), GitLab lib/api/ci/runners.rb,
lib/api/user_runners.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin, Principal, Who, authenticated
from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import (
    Job,
    Member,
    Namespace,
    Project,
    Runner,
    RunnerManager,
    RunnerProject,
    User,
)
from nautilus_forge.errors import Forbidden, InvalidParams, NotFound
from nautilus_forge.jobs.entities import show_jobs_with_projects
from nautilus_forge.namespaces import level
from nautilus_forge.pagination import Paged
from nautilus_forge.params import CommaList, Field, Id, ParamModel, Params, path_id
from nautilus_forge.pipelines.statuses import Status
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import access_to, level_of
from nautilus_forge.responses import Json, no_content
from nautilus_forge.runners import entities, service

router = APIRouter()

RunnerId = Annotated[int, Depends(path_id("runner_id", "Runner"))]
Creator = Annotated[Principal, Depends(authenticated("create_runner", "api"))]

Type = Literal["instance_type", "group_type", "project_type"]
ContactStatus = Literal["active", "paused", "online", "offline", "never_contacted", "stale"]
AccessLevel = Literal["not_protected", "ref_protected"]


class ListGroupRunners(ParamModel):
    type: Type | None = None
    paused: bool | None = None
    status: ContactStatus | None = None
    tag_list: CommaList | None = None
    version_prefix: str | None = Field(default=None, pattern=r"^[\d+.]+$")


class ListRunners(ListGroupRunners):
    scope: (
        Literal["specific", "shared", "instance_type", "group_type", "project_type"] | ContactStatus | None
    ) = None


class RunnerValues(ParamModel):
    description: str | None = None
    paused: bool | None = None
    locked: bool | None = None
    access_level: AccessLevel | None = None
    run_untagged: bool | None = None
    tag_list: CommaList | None = None
    maximum_timeout: int | None = Field(default=None, lt=1 << 31)
    maintenance_note: str | None = None


class UpdateRunner(RunnerValues):
    active: bool | None = None


class CreateRunner(RunnerValues):
    runner_type: Type
    group_id: Id | None = None
    project_id: Id | None = None


class ListJobs(ParamModel):
    status: Status | None = None
    system_id: str | None = None
    order_by: Literal["id"] | None = None
    sort: Literal["asc", "desc"] = "desc"


def filtered(ci: CiHalf, statement: Select[Any], params: ListGroupRunners) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = []
    scope = params.scope if isinstance(params, ListRunners) else None
    kind = {"specific": "project_type", "shared": "instance_type"}.get(scope or "", scope)
    for value in (kind, params.type, params.status):
        if value in ("instance_type", "group_type", "project_type"):
            wanted.append(Runner.runner_type == value)
        elif value is not None:
            wanted.append(service.with_status(value, ci.limits))
    if params.paused is not None:
        wanted.append(Runner.is_active.is_(not params.paused))
    if params.tag_list:
        wanted.append(Runner.tags.contains(params.tag_list))
    if params.version_prefix is not None:
        wanted.append(Runner.version.startswith(params.version_prefix, autoescape=True))
    return statement.where(*wanted).order_by(Runner.id.desc())


@router.post("/user/runners")
async def create_runner(
    who: Creator, db: Db, params: Annotated[CreateRunner, Params(CreateRunner)]
) -> Response:
    """201 with a `glrt-` token; 400; 403. Instance runners are the administrators' to create."""
    user = who.require_user()
    given = params.given()
    project_id, namespace_id = None, None
    match params.runner_type:
        case "instance_type":
            if not user.is_admin:
                raise Forbidden("Insufficient permissions")
        case "project_type":
            if params.project_id is None:
                raise InvalidParams("project_id is missing")
            at = await access_to(db, who, str(params.project_id), Ability.ADMIN_RUNNER)
            project_id = at.project.id
        case "group_type":
            namespace_id = await _own_group(db, user, params.group_id)
    runner, token = await service.create(
        db,
        params.runner_type,
        given,
        registration_type="authenticated_user",
        project_id=project_id,
        namespace_id=namespace_id,
        creator_id=user.id,
    )
    return Json(entities.registered(runner, token), 201)


async def _own_group(db: AsyncSession, user: User, group_id: int | None) -> int:
    """Raises `InvalidParams`, `Forbidden`."""
    if group_id is None:
        raise InvalidParams("group_id is missing")
    group = await db.get(Namespace, group_id)
    if group is None or group.kind != "group":
        raise NotFound("Group")
    if await level.of(db, user, group) < Level.OWNER:
        raise Forbidden("Insufficient permissions")
    return group.id


@router.get("/runners")
async def list_own(
    who: Who, db: Db, ci: Ci, page: Paged, params: Annotated[ListRunners, Params(ListRunners)]
) -> Response:
    """Runners of projects that one maintains and of groups that one owns; all of those for administrators."""
    user = who.require_user()
    statement = select(Runner).where(Runner.runner_type != "instance_type")
    if not user.is_admin:
        groups = select(Namespace.id).where(Namespace.kind == "group", level.belongs_to(user, Level.OWNER))
        statement = statement.where(or_(Runner.id.in_(_owned_by(user)), Runner.namespace_id.in_(groups)))
    return await page.of(
        db, filtered(ci, statement, params), lambda runner: entities.runner_basic(ci.limits, runner)
    )


def _owned_by(user: User) -> Select[Any]:
    """Runners of projects in one's own namespace, or maintained by membership in the project or a group above."""
    member = select(Member.id).where(
        level.counts(user), Member.access_level >= Level.MAINTAINER, Member.project_id == Project.id
    )
    return (
        select(RunnerProject.runner_id)
        .join(Project, Project.id == RunnerProject.project_id)
        .join(Namespace, Namespace.id == Project.namespace_id)
        .where(or_(Namespace.owner_id == user.id, level.belongs_to(user, Level.MAINTAINER), member.exists()))
    )


@router.get("/runners/all")
async def list_all(
    who: Admin, db: Db, ci: Ci, page: Paged, params: Annotated[ListRunners, Params(ListRunners)]
) -> Response:
    return await page.of(
        db, filtered(ci, select(Runner), params), lambda runner: entities.runner_basic(ci.limits, runner)
    )


@router.post("/runners/reset_registration_token")
async def reset_registration_token(who: Admin, db: Db) -> Response:
    return Json(entities.token_reset(await service.reset_instance_token(db), None), 201)


@router.get("/runners/{runner_id}")
async def read_runner(who: Who, db: Db, ci: Ci, runner_id: RunnerId) -> Response:
    """Instance runners for everybody; others for those who maintain one of their projects or own their group."""
    runner = await find_runner(db, runner_id)
    if runner.runner_type != "instance_type":
        await require_maintained(db, who, runner)
    return Json(await _details(ci, db, who, runner))


@router.get("/runners/{runner_id}/managers")
async def list_managers(who: Who, db: Db, ci: Ci, page: Paged, runner_id: RunnerId) -> Response:
    runner = await find_runner(db, runner_id)
    if runner.runner_type != "instance_type":
        await require_maintained(db, who, runner)
    statement = select(RunnerManager).where(RunnerManager.runner_id == runner.id).order_by(RunnerManager.id)
    return await page.of(db, statement, lambda manager: entities.manager_shown(ci.limits, manager))


@router.put("/runners/{runner_id}")
async def update_runner(
    who: Who, db: Db, ci: Ci, runner_id: RunnerId, params: Annotated[UpdateRunner, Params(UpdateRunner)]
) -> Response:
    runner = await find_runner(db, runner_id)
    await require_maintained(db, who, runner)
    if not params.given():
        names = ", ".join(UpdateRunner.model_fields)
        raise InvalidParams(f"{names} are missing, at least one parameter must be provided")
    await service.change(db, runner, params.given())
    return Json(await _details(ci, db, who, runner))


@router.delete("/runners/{runner_id}")
async def delete_runner(who: Who, db: Db, runner_id: RunnerId) -> Response:
    runner = await find_runner(db, runner_id)
    if not who.require_user().is_admin:
        if len(await service.projects_of(db, runner.id)) > 1:
            raise Forbidden("Runner associated with more than one project")
        await require_maintained(db, who, runner)
    await service.delete(db, runner)
    return no_content()


@router.post("/runners/{runner_id}/reset_authentication_token")
async def reset_authentication_token(who: Who, db: Db, runner_id: RunnerId) -> Response:
    runner = await find_runner(db, runner_id)
    await require_maintained(db, who, runner)
    token = await service.reset_token(db, runner)
    return Json(entities.token_reset(token, runner.token_expires_at), 201)


@router.get("/runners/{runner_id}/jobs")
async def list_jobs(
    who: Who, db: Db, ci: Ci, page: Paged, runner_id: RunnerId, params: Annotated[ListJobs, Params(ListJobs)]
) -> Response:
    runner = await find_runner(db, runner_id)
    if not who.require_user().is_admin:
        await require_maintained(db, who, runner)
    statement = select(Job).where(Job.runner_id == runner.id)
    if params.status is not None:
        statement = statement.where(Job.status == params.status.value)
    if params.system_id is not None:
        statement = statement.join(RunnerManager, RunnerManager.id == Job.runner_manager_id).where(
            RunnerManager.system_id == params.system_id
        )
    statement = statement.order_by(Job.id.asc() if params.sort == "asc" else Job.id.desc())
    total = await page.count(db, statement)
    jobs = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond(await show_jobs_with_projects(ci, db, jobs), total)


async def find_runner(db: AsyncSession, runner_id: int) -> Runner:
    runner = await db.get(Runner, runner_id)
    if runner is None:
        raise NotFound("Runner")
    return runner


async def require_maintained(db: AsyncSession, who: Principal, runner: Runner) -> None:
    """Raises `Forbidden` unless one is an administrator, maintains a project of the runner's, or owns its group."""
    user = who.require_user()
    if user.is_admin:
        return
    for group in await service.groups_of(db, runner):
        if await level.of(db, user, group) >= Level.OWNER:
            return
    for project in await service.projects_of(db, runner.id):
        if await level_of(db, user, project) >= Level.MAINTAINER:
            return
    raise Forbidden("No access granted")


async def _details(ci: CiHalf, db: AsyncSession, who: Principal, runner: Runner) -> dict[str, Any]:
    user = who.require_user()
    projects = await service.projects_of(db, runner.id)
    seen = [p for p in projects if user.is_admin or await level_of(db, user, p) >= Level.GUEST]
    groups = await service.groups_of(db, runner)
    is_busy = await service.is_busy(db, runner.id)
    await db.refresh(runner)
    return entities.runner_details(ci.forge.settings, ci.limits, runner, seen, groups, is_busy=is_busy)
