"""`/projects`: list, create, read, change, archive, delete.

Source: doc/api/projects.md, gitlabhq lib/api/projects.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin, MaybeWho, Who, find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Namespace, Project, User
from nautilus_forge.errors import InvalidParams, InvalidRecord, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.imports import service as imports
from nautilus_forge.imports.sources import import_rules, reachable
from nautilus_forge.namespaces import level as namespace_level
from nautilus_forge.namespaces.creating import may_create_in, require_room
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.project_templates.catalogue import TEMPLATES, ProjectTemplate
from nautilus_forge.projects import entities, listing, service
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.params import ChangeProject, CreateProject, ListProjects
from nautilus_forge.projects.removal import remove_project
from nautilus_forge.projects.surroundings import forks_counts
from nautilus_forge.responses import Json
from nautilus_forge.users.queries import existing_user

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT, job_token=True))]
Change = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT))]
Own = Annotated[ProjectAccess, Depends(project_with(Ability.REMOVE_PROJECT))]
Filter = Annotated[ListProjects, Params(ListProjects)]
UserId = Annotated[int, Depends(path_id("user_id", "User"))]


@router.get("/projects")
async def list_projects(who: MaybeWho, db: Db, forge: TheForge, page: Paged, params: Filter) -> Response:
    """Every project that one may see; `order_by=id` may be paged by key too."""
    return await listing.listed(db, forge, who, page, params, listing.filtered(who.user, params))


@router.get("/users/{user_id}/projects")
async def list_projects_of_user(
    who: MaybeWho,
    db: Db,
    forge: TheForge,
    page: Paged,
    user_id: Annotated[str, Depends(path_text("user_id"))],
    params: Filter,
) -> Response:
    """Those in the own namespace of the user (id or name), as far as one may see them."""
    user = await find_user(db, user_id)
    if user is None:
        raise NotFound("User")
    statement = listing.filtered(who.user, params)
    statement = statement.where(Project.namespace.has(Namespace.owner_id == user.id))
    return await listing.listed(db, forge, who, page, params, statement)


@router.post("/projects")
async def create_project(
    who: Who, db: Db, forge: TheForge, params: Annotated[CreateProject, Params(CreateProject)]
) -> Response:
    """In one's own namespace, or in `namespace_id` where one may."""
    user = who.require_user()
    namespace = await _namespace_for(db, user, params.namespace_id)
    return await _created(db, forge, user, user, namespace, params)


@router.post("/projects/user/{user_id}")
async def create_project_for_user(
    who: Admin,
    db: Db,
    forge: TheForge,
    user_id: UserId,
    params: Annotated[CreateProject, Params(CreateProject)],
) -> Response:
    """In the namespace of another user; administrators only."""
    owner = await existing_user(db, user_id)
    namespace = await _namespace_for(db, owner, params.namespace_id)
    return await _created(db, forge, owner, owner, namespace, params)


async def _namespace_for(db: AsyncSession, user: User, namespace_id: int | None) -> Namespace:
    """Raises `InvalidRecord` for a namespace in which the user may make no project."""
    namespace = await namespace_level.own_or(db, user, namespace_id)
    if namespace is None or not await may_create_in(db, user, namespace):
        raise InvalidRecord({"namespace": ["is not valid"]})
    if namespace.owner_id is not None:
        await require_room(db, user, namespace)
    return namespace


_NOT_ATTRIBUTES = {
    "namespace_id",
    "initialize_with_readme",
    "import_url",
    "template_name",
    "template_project_id",
    "use_custom_template",
}


def _template(params: CreateProject) -> ProjectTemplate | None:
    """Raises `InvalidParams`, and `InvalidRecord` for a template that is none.

    Source: gitlabhq app/services/projects/create_from_template_service.rb.
    """
    given = [name for name in ("import_url", "template_name", "template_project_id") if getattr(params, name)]
    if len(given) > 1:
        raise InvalidParams(f"{', '.join(given)} are mutually exclusive")
    if params.use_custom_template or params.template_project_id is not None:
        raise InvalidParams("use_custom_template is not available: only the built-in templates are")
    if not params.template_name:
        return None
    template = TEMPLATES.get(params.template_name)
    if template is None:
        raise InvalidRecord({"template_name": [f"'{params.template_name}' is unknown or invalid"]})
    return template


async def _created(
    db: AsyncSession, forge: Forge, creator: User, owner: User, namespace: Namespace, params: CreateProject
) -> Response:
    if not params.name and not params.path:
        raise InvalidParams("name, path are missing, at least one parameter must be provided")
    template = _template(params)
    target = None
    if params.import_url:
        rules = await import_rules(db, forge.settings)
        await db.commit()  # gives the connection back while the other server is asked
        target = await reachable(params.import_url, rules)
    project = await service.create_project(
        db,
        forge,
        creator=creator,
        owner=owner,
        namespace=namespace,
        given={
            name: value
            for name, value in params.given().items()
            if value is not None and name not in _NOT_ATTRIBUTES
        },
        with_readme=params.initialize_with_readme and target is None,
        template=template,
    )
    if target is not None:
        await imports.schedule_git(db, forge, project, target, creator.id)
    return Json((await listing.shown(db, forge, owner, [project]))[0], 201)


class ReadProject(ParamModel):
    statistics: bool = False


@router.get("/projects/{id}")
async def read_project(
    at: Read, db: Db, forge: TheForge, params: Annotated[ReadProject, Params(ReadProject)]
) -> Response:
    """By id or URL-encoded path. Nobody in particular sees the basic details alone."""
    if at.user is None:
        counts = await forks_counts(db, [at.project.id])
        return Json(entities.basic(forge.settings, at.project, counts.get(at.project.id, 0)))
    found = await listing.shown(db, forge, at.user, [at.project], with_statistics=params.statistics)
    return Json(found[0])


@router.put("/projects/{id}")
async def change_project(
    at: Change, db: Db, forge: TheForge, params: Annotated[ChangeProject, Params(ChangeProject)]
) -> Response:
    given = params.given()
    if not given:
        raise InvalidParams("no attribute is given, at least one parameter must be provided")
    if params.visibility is not None and params.visibility != at.project.visibility:
        at.require(Ability.CHANGE_VISIBILITY)
    await service.change_project(db, forge, at.who.require_user(), at.project, given)
    return Json((await listing.shown(db, forge, at.user, [at.project]))[0])


@router.post("/projects/{id}/archive")
async def archive_project(at: Own, db: Db, forge: TheForge) -> Response:
    return await _set_archived(db, forge, at, archived=True)


@router.post("/projects/{id}/unarchive")
async def unarchive_project(at: Own, db: Db, forge: TheForge) -> Response:
    return await _set_archived(db, forge, at, archived=False)


async def _set_archived(db: AsyncSession, forge: Forge, at: ProjectAccess, *, archived: bool) -> Response:
    at.project.is_archived = archived
    await db.flush()
    await db.refresh(at.project)
    return Json((await listing.shown(db, forge, at.user, [at.project]))[0], 201)


@router.delete("/projects/{id}")
async def delete_project(at: Own, db: Db, forge: TheForge) -> Response:
    """At once and for good: the project, its repository, pipelines, logs and artifacts."""
    await remove_project(db, forge, at.project)
    return Json({"message": "202 Accepted"}, 202)
