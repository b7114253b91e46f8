"""Forks and the state of imports.

Source: doc/api/project_forks.md, doc/api/project_import_export.md, gitlabhq lib/api/projects.rb,
app/services/projects/fork_service.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Who
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Namespace, Project, User
from nautilus_forge.errors import Conflict, InvalidRecord, NotFound
from nautilus_forge.git import refs
from nautilus_forge.imports import service as imports
from nautilus_forge.namespaces import level as namespace_level
from nautilus_forge.namespaces.creating import may_create_in, require_room
from nautilus_forge.namespaces.queries import find_namespace
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, Id, ParamModel, Params, path_text
from nautilus_forge.policy import Ability, Level, Visibility
from nautilus_forge.projects import entities, listing, service
from nautilus_forge.projects.access import ProjectAccess, access_to, project_with
from nautilus_forge.projects.attributes import DEFAULTS, attribute
from nautilus_forge.projects.params import ListProjects, VisibilityName
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT))]
Own = Annotated[ProjectAccess, Depends(project_with(Ability.REMOVE_PROJECT))]
SourceId = Annotated[str, Depends(path_text("forked_from_id"))]

_STRICTNESS = [Visibility.PRIVATE, Visibility.INTERNAL, Visibility.PUBLIC]


class ForkProject(ParamModel):
    """`namespace`: id or path, as older clients have it. `branches`: the one branch to copy; empty: all."""

    namespace: str | None = None
    namespace_id: Id | None = None
    namespace_path: str | None = None
    path: str | None = None
    name: str | None = None
    description: str | None = Field(default=None, max_length=2000)
    visibility: VisibilityName | None = None
    mr_default_target_self: bool | None = None
    branches: str | None = None


@router.post("/projects/{id}/fork")
async def fork_project(
    at: Read, db: Db, forge: TheForge, params: Annotated[ForkProject, Params(ForkProject)]
) -> Response:
    """At once a project; its repository follows beside (`import_status`). 409 where name or path is taken."""
    user = at.who.require_user()
    if not may_fork(at):
        raise NotFound
    namespace = await _target_namespace(db, user, params)
    if params.branches and not refs.is_valid_name(params.branches):
        raise NotFound("Branch")
    try:
        fork = await service.create_project(
            db,
            forge,
            creator=user,
            owner=user,
            namespace=namespace,
            given=_given(at.project, namespace, params),
            with_readme=False,
        )
    except InvalidRecord as refusal:
        raise Conflict(body=refusal.body) from refusal
    fork.forked_from_id = at.project.id
    await imports.schedule_fork(db, forge, fork, at.project, user.id, params.branches or None)
    await db.refresh(fork)
    return Json((await listing.shown(db, forge, user, [fork]))[0], 201)


def may_fork(at: ProjectAccess) -> bool:
    """Whoever may read the code, where `forking_access_level` lets him; guests and outsiders (external) do not."""
    forking = attribute(at.project, "forking_access_level")
    if forking == "disabled" or (forking == "private" and at.standing.level < Level.GUEST):
        return False
    return at.can(Ability.READ_CODE) and not at.who.require_user().is_external


async def _target_namespace(db: AsyncSession, user: User, params: ForkProject) -> Namespace:
    named = params.namespace_path or params.namespace
    if params.namespace_id is not None:
        namespace = await namespace_level.own_or(db, user, params.namespace_id)
    elif named:
        namespace = await find_namespace(db, named)
    else:
        namespace = await namespace_level.own_or(db, user, None)
    if namespace is None or namespace.deleted_at is not None or not await may_create_in(db, user, namespace):
        raise NotFound("Target Namespace")
    if namespace.owner_id is not None:
        await require_room(db, user, namespace)
    return namespace


def _given(source: Project, namespace: Namespace, params: ForkProject) -> dict[str, Any]:
    """The fork's settings: the source's, as far as they are handed on; never more visible than source or group."""
    features = {name: attribute(source, name) for name in DEFAULTS if name.endswith("_access_level")}
    levels = [source.visibility, namespace.visibility, params.visibility or Visibility.PUBLIC]
    return features | {
        "name": params.name or source.name,
        "path": params.path or source.path,
        "description": params.description if params.description is not None else source.description,
        "visibility": str(min((Visibility(level) for level in levels), key=_STRICTNESS.index)),
        "default_branch": params.branches or source.default_branch,
        "ci_config_path": source.ci_config_path,
        "shared_runners_enabled": source.shared_runners_enabled,
        "ci_default_git_depth": attribute(source, "ci_default_git_depth"),
        "lfs_enabled": attribute(source, "lfs_enabled"),
        "mr_default_target_self": bool(params.mr_default_target_self),
    }


@router.get("/projects/{id}/forks")
async def list_forks(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListProjects, Params(ListProjects)]
) -> Response:
    """Those that one may see."""
    statement = listing.filtered(at.user, params).where(Project.forked_from_id == at.project.id)
    return await listing.listed(db, forge, at.who, page, params, statement)


@router.post("/projects/{id}/fork/{forked_from_id}")
async def relate_to_source(
    at: Administer, who: Who, db: Db, forge: TheForge, forked_from_id: SourceId
) -> Response:
    """Mark a project that exists as the fork of another one; nothing is copied."""
    source = await access_to(db, who, forked_from_id, Ability.READ_PROJECT)
    if not may_fork(source):
        raise NotFound("Source Project")
    if at.project.forked_from_id is not None or source.project.id == at.project.id:
        raise Conflict("Project already forked")
    at.project.forked_from_id = source.project.id
    await db.flush()
    await db.refresh(at.project)
    return Json((await listing.shown(db, forge, at.user, [at.project]))[0], 201)


@router.delete("/projects/{id}/fork")
async def forget_source(at: Own, db: Db) -> Response:
    """304 where it is no fork."""
    if at.project.forked_from_id is None:
        return Response(status_code=304)
    at.project.forked_from_id = None
    await db.flush()
    return no_content()


@router.get("/projects/{id}/import")
async def read_import(at: Administer, db: Db) -> Response:
    found = await imports.imports_of(db, [at.project.id])
    return Json(entities.import_status(at.project, found.get(at.project.id)))
