"""Runners of a project.

Source: doc/api/runners.md ("List project's runners" and after), GitLab lib/api/ci/runners.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import ColumnElement, or_, select
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Runner, RunnerProject
from nautilus_forge.errors import BadRequest, Forbidden, NotFound
from nautilus_forge.jobs.wakeups import RunnerChanged, tell
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Id, ParamModel, Params, path_id
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.responses import Json, no_content
from nautilus_forge.runners import entities, service
from nautilus_forge.runners.routes import ListRunners, filtered, find_runner, require_maintained

router = APIRouter()

RunnerId = Annotated[int, Depends(path_id("runner_id", "Runner"))]
Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_RUNNER, anonymous=False))]
Writable = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_RUNNER))]


class AssignRunner(ParamModel):
    runner_id: Id


@router.get("/projects/{id}/runners")
async def list_of_project(
    at: Readable, db: Db, ci: Ci, page: Paged, params: Annotated[ListRunners, Params(ListRunners)]
) -> Response:
    """Those that the project may use: its own, those of the groups above it, and the instance's."""
    own = select(RunnerProject.runner_id).where(RunnerProject.project_id == at.project.id)
    usable: list[ColumnElement[bool]] = [Runner.id.in_(own)]
    if attribute(at.project, "group_runners_enabled"):
        usable.append(Runner.namespace_id.in_(at.project.namespace.traversal_ids))
    if at.project.shared_runners_enabled:
        usable.append(Runner.runner_type == "instance_type")
    statement = select(Runner).where(or_(*usable))
    return await page.of(
        db, filtered(ci, statement, params), lambda runner: entities.runner_basic(ci.limits, runner)
    )


@router.post("/projects/{id}/runners")
async def assign_runner(
    at: Writable, db: Db, ci: Ci, params: Annotated[AssignRunner, Params(AssignRunner)]
) -> Response:
    """201; 400 for an instance runner or one that serves the project already; 403 for a locked one."""
    runner = await find_runner(db, params.runner_id)
    if runner.runner_type == "group_type":
        raise Forbidden("Runner is a group runner")
    is_admin = at.user is not None and at.user.is_admin
    if runner.is_locked and not is_admin:
        raise Forbidden("Runner is locked")
    if not is_admin:
        await require_maintained(db, at.who, runner)
    assigned = [project.id for project in await service.projects_of(db, runner.id)]
    if runner.runner_type != "project_type" or at.project.id in assigned:
        raise BadRequest(message={"runner": ["is not assignable"]})
    db.add(RunnerProject(runner_id=runner.id, project_id=at.project.id))
    await db.flush()
    await tell(db, RunnerChanged(runner.id))
    return Json(entities.runner_basic(ci.limits, runner), 201)


@router.delete("/projects/{id}/runners/{runner_id}")
async def unassign_runner(at: Writable, db: Db, runner_id: RunnerId) -> Response:
    """204; 403 where it is the runner's only project; 404."""
    assignments = (
        await db.scalars(
            select(RunnerProject).where(RunnerProject.runner_id == runner_id).order_by(RunnerProject.id)
        )
    ).all()
    mine = next((a for a in assignments if a.project_id == at.project.id), None)
    if mine is None:
        raise NotFound("Runner")
    if len(assignments) == 1:
        raise Forbidden("Only one project associated with the runner. Please remove the runner instead")
    if mine is assignments[0]:
        raise Forbidden("You cannot unassign a runner from the owner project. Delete the runner instead")
    await db.delete(mine)
    await tell(db, RunnerChanged(runner_id))
    return no_content()


@router.post("/projects/{id}/runners/reset_registration_token")
async def reset_project_token(at: Writable, db: Db) -> Response:
    return Json(entities.token_reset(await service.reset_project_token(db, at.project.id), None), 201)
