"""`/deploy_keys`, `/projects/:id/deploy_keys`.

Source: doc/api/deploy_keys.md, gitlabhq lib/api/deploy_keys.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import DeployKeyProject, Key
from nautilus_forge.errors import Forbidden, InvalidParams, InvalidRecord, NotFound
from nautilus_forge.keys import deploy_keys, entities
from nautilus_forge.keys.params import AddDeployKey, ChangeDeployKey
from nautilus_forge.keys.service import owner_of
from nautilus_forge.keys.validation import problems_of_title
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT, anonymous=False))]
KeyId = Annotated[int, Depends(path_id("key_id", "Deploy key"))]
Adding = Annotated[AddDeployKey, Params(AddDeployKey)]


class ListDeployKeys(ParamModel):
    public: bool = False


@router.get("/deploy_keys")
async def list_all(
    who: Admin,
    db: Db,
    forge: TheForge,
    page: Paged,
    params: Annotated[ListDeployKeys, Params(ListDeployKeys)],
) -> Response:
    statement = deploy_keys.all_deploy_keys(only_public=params.public)
    keys = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    joined = await deploy_keys.projects_of(db, [key.id for key in keys])
    shown = [
        entities.deploy_key_with_projects(forge.settings, key, await owner_of(db, key), joined[key.id])
        for key in keys
    ]
    return page.respond(shown, await page.count(db, statement))


@router.post("/deploy_keys")
async def add_public(who: Admin, db: Db, forge: TheForge, params: Adding) -> Response:
    key = await deploy_keys.add_public(db, who.require_user(), params.new())
    return Json(entities.deploy_key(forge.settings, key, who.user), 201)


@router.get("/projects/{id}/deploy_keys")
async def list_of_project(at: Administer, db: Db, forge: TheForge, page: Paged) -> Response:
    statement = deploy_keys.keys_of_project(at.project.id)
    rows = (await db.execute(statement.limit(page.per_page).offset(page.offset))).all()
    shown = [entities.deploy_key_of_project(forge.settings, *row) for row in rows]
    return page.respond(shown, await page.count(db, statement.with_only_columns(DeployKeyProject.id)))


@router.get("/projects/{id}/deploy_keys/{key_id}")
async def read(at: Administer, db: Db, forge: TheForge, key_id: KeyId) -> Response:
    link, key = await _existing(db, at, key_id)
    return Json(entities.deploy_key_of_project(forge.settings, link, key, await owner_of(db, key)))


@router.post("/projects/{id}/deploy_keys")
async def add(at: Administer, db: Db, forge: TheForge, params: Adding) -> Response:
    link, key = await deploy_keys.add_to_project(
        db, at.project, at.who.require_user(), params.new(), can_push=bool(params.can_push)
    )
    return Json(entities.deploy_key_of_project(forge.settings, link, key, await owner_of(db, key)), 201)


@router.put("/projects/{id}/deploy_keys/{key_id}")
async def change(
    at: Administer,
    db: Db,
    forge: TheForge,
    key_id: KeyId,
    params: Annotated[ChangeDeployKey, Params(ChangeDeployKey)],
) -> Response:
    """A title that is not the user's to change is left as it is, unless nothing else was asked for."""
    given = params.given()
    if not given:
        raise InvalidParams("title, can_push are missing, at least one parameter must be provided")
    link, key = await _existing(db, at, key_id)
    if params.title is not None:
        if problems := problems_of_title(params.title):
            raise InvalidRecord({"deploy_key.title": problems})
        if await deploy_keys.may_rename(db, at.who.require_user(), key):
            key.title = params.title.strip()
        elif "can_push" not in given:
            raise Forbidden
    if params.can_push is not None:
        link.can_push = params.can_push
    await db.flush()
    return Json(entities.deploy_key_of_project(forge.settings, link, key, await owner_of(db, key)))


@router.post("/projects/{id}/deploy_keys/{key_id}/enable")
async def enable(at: Administer, db: Db, forge: TheForge, key_id: KeyId) -> Response:
    key = await deploy_keys.enable(db, at.project, at.who.require_user(), key_id)
    if key is None:
        raise NotFound("Deploy key")
    return Json(entities.deploy_key(forge.settings, key, await owner_of(db, key)), 201)


@router.delete("/projects/{id}/deploy_keys/{key_id}")
async def remove(at: Administer, db: Db, key_id: KeyId) -> Response:
    """The key goes with its last project, unless it is public (a trigger sees to it)."""
    link, _ = await _existing(db, at, key_id)
    await db.delete(link)
    return no_content()


async def _existing(db: AsyncSession, at: ProjectAccess, key_id: int) -> tuple[DeployKeyProject, Key]:
    link = await deploy_keys.link_of(db, at.project.id, key_id)
    if link is None:
        raise NotFound("Deploy key")
    return link, await db.get_one(Key, key_id)
