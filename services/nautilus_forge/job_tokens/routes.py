"""Which projects' jobs may reach a project by their token.

Source: doc/api/project_job_token_scopes.md, GitLab lib/api/project_job_token_scope.rb,
app/services/ci/job_token_scope/*.rb (messages).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import ColumnElement, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import JobTokenAllowance, Namespace, Project
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.groups import access as groups
from nautilus_forge.groups import entities as group_entities
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Id, ParamModel, Params, path_id
from nautilus_forge.policy import Ability, GroupAbility
from nautilus_forge.projects import entities
from nautilus_forge.projects.access import ProjectAccess, find_project, project_with, standing_of
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Admin = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT, anonymous=False))]
TargetProjectId = Annotated[int, Depends(path_id("target_project_id"))]
TargetGroupId = Annotated[int, Depends(path_id("target_group_id"))]

_AT = "/projects/{id}/job_token_scope"
_UNFOUND = (
    "The target_{kind} that you are attempting to access does not exist or you don't have permission to perform "
    "this action"
)
_IS_LIMITED = text("SELECT is_job_token_limited FROM ci_projects WHERE project_id = :project")
_LIMIT = text(
    """
    INSERT INTO ci_projects (project_id, is_job_token_limited) VALUES (:project, :limited)
    ON CONFLICT (project_id) DO UPDATE SET is_job_token_limited = excluded.is_job_token_limited
    """
)


class Limit(ParamModel):
    enabled: bool


class LetProject(ParamModel):
    target_project_id: Id


class LetGroup(ParamModel):
    target_group_id: Id


@router.get(_AT)
async def read_scope(at: Admin, db: Db) -> Response:
    limited = await db.scalar(_IS_LIMITED, {"project": at.project.id})
    return Json({"inbound_enabled": limited is not False, "outbound_enabled": False})


@router.patch(_AT)
async def change_scope(at: Admin, db: Db, params: Annotated[Limit, Params(Limit)]) -> Response:
    """204. `enabled`: tokens of other projects reach this one only by the allowlists."""
    await db.execute(_LIMIT, {"project": at.project.id, "limited": params.enabled})
    return no_content()


@router.get(_AT + "/allowlist")
async def list_projects(at: Admin, db: Db, ci: Ci, page: Paged) -> Response:
    """The project itself, and those that it lets in."""
    let_in = select(JobTokenAllowance.source_project_id).where(JobTokenAllowance.project_id == at.project.id)
    statement = select(Project).where(
        (Project.id == at.project.id) | Project.id.in_(let_in), Project.deleted_at.is_(None)
    )
    settings = ci.forge.settings
    return await page.of(
        db, statement.order_by(Project.id), lambda project: entities.basic(settings, project)
    )


@router.post(_AT + "/allowlist")
async def let_project(at: Admin, db: Db, params: Annotated[LetProject, Params(LetProject)]) -> Response:
    """201 with the link; 400 for a project that is in already, 404 for one that is none."""
    target = await find_project(db, str(params.target_project_id))
    if target is None:
        raise NotFound("target_project_id not found")
    if not (await standing_of(db, at.who, target)).can(Ability.READ_PROJECT):
        raise BadRequest(_UNFOUND.format(kind="project"))
    if target.id == at.project.id:
        raise BadRequest("Validation failed: Target project can't be the same as the source project")
    await _add(db, at, JobTokenAllowance.source_project_id == target.id, source_project_id=target.id)
    return Json({"source_project_id": at.project.id, "target_project_id": target.id}, 201)


@router.delete(_AT + "/allowlist/{target_project_id}")
async def shut_out_project(at: Admin, db: Db, target: TargetProjectId) -> Response:
    if target == at.project.id:
        raise BadRequest("Source project cannot be removed from the job token scope")
    gone = JobTokenAllowance.source_project_id == target
    if not await _remove(db, at, gone):
        raise NotFound("Target project not found")
    return no_content()


@router.get(_AT + "/groups_allowlist")
async def list_groups(at: Admin, db: Db, ci: Ci, page: Paged) -> Response:
    let_in = select(JobTokenAllowance.source_namespace_id).where(
        JobTokenAllowance.project_id == at.project.id
    )
    statement = select(Namespace).where(Namespace.id.in_(let_in)).order_by(Namespace.id)
    settings = ci.forge.settings
    return await page.of(db, statement, lambda group: group_entities.basic(settings, group))


@router.post(_AT + "/groups_allowlist")
async def let_group(at: Admin, db: Db, params: Annotated[LetGroup, Params(LetGroup)]) -> Response:
    """201 with the link; all projects below the group are let in."""
    group = await groups.find_group(db, str(params.target_group_id))
    if group is None:
        raise NotFound("target_group_id not found")
    if not (await groups.standing_of(db, at.user, group)).can(GroupAbility.READ_GROUP):
        raise BadRequest(_UNFOUND.format(kind="group"))
    await _add(db, at, JobTokenAllowance.source_namespace_id == group.id, source_namespace_id=group.id)
    return Json({"source_project_id": at.project.id, "target_group_id": group.id}, 201)


@router.delete(_AT + "/groups_allowlist/{target_group_id}")
async def shut_out_group(at: Admin, db: Db, target: TargetGroupId) -> Response:
    if not await _remove(db, at, JobTokenAllowance.source_namespace_id == target):
        raise NotFound("Target group not found")
    return no_content()


async def _add(db: AsyncSession, at: ProjectAccess, same: ColumnElement[bool], **source: int) -> None:
    """Raises `BadRequest` for what is let in already."""
    statement = select(JobTokenAllowance.id).where(JobTokenAllowance.project_id == at.project.id)
    if await db.scalar(statement.where(same)) is not None:
        kind = "project" if "source_project_id" in source else "group"
        raise BadRequest(f"Target {kind} is already in the job token scope")
    user = at.user
    db.add(
        JobTokenAllowance(
            project_id=at.project.id, added_by_id=user.id if user is not None else None, **source
        )
    )
    await db.flush()


async def _remove(db: AsyncSession, at: ProjectAccess, which: ColumnElement[bool]) -> bool:
    statement = delete(JobTokenAllowance).where(JobTokenAllowance.project_id == at.project.id)
    gone = await db.execute(statement.where(which).returning(JobTokenAllowance.id))
    return gone.first() is not None
