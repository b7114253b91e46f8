"""Protected tags.

Source: doc/api/protected_tags.md, gitlabhq lib/api/protected_tags.rb, lib/api/entities/protected_tag.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import ProtectedTag
from nautilus_forge.errors import InvalidParams, NotFound, Unprocessable
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.params import RefLevel
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROTECTED, anonymous=False))]
Name = Annotated[str, Depends(path_text("name"))]

_WORDS = {0: "No one", 30: "Developers + Maintainers", 40: "Maintainers", 60: "Instance admins"}


class AllowedToCreate(ParamModel):
    access_level: RefLevel


class ProtectTag(ParamModel):
    name: str = Field(min_length=1, max_length=255)
    create_access_level: RefLevel | None = None
    allowed_to_create: list[AllowedToCreate] = Field(default=[], max_length=1)

    @property
    def level(self) -> int:
        if self.allowed_to_create:
            return self.allowed_to_create[0].access_level
        return 40 if self.create_access_level is None else self.create_access_level


def _entity(rule: ProtectedTag) -> dict[str, Any]:
    level = {
        "id": rule.id,
        "access_level": rule.create_access_level,
        "access_level_description": _WORDS[rule.create_access_level],
        "deploy_key_id": None,
    }
    return {"name": rule.name, "create_access_levels": [level]}


async def _existing(db: AsyncSession, at: ProjectAccess, name: str) -> ProtectedTag:
    found = await db.scalar(
        select(ProtectedTag).where(ProtectedTag.project_id == at.project.id, ProtectedTag.name == name)
    )
    if found is None:
        raise NotFound
    return found


@router.get("/projects/{id}/protected_tags")
async def list_protected_tags(at: Administer, db: Db, page: Paged) -> Response:
    statement = select(ProtectedTag).where(ProtectedTag.project_id == at.project.id)
    return await page.of(db, statement.order_by(ProtectedTag.id), _entity)


@router.get("/projects/{id}/protected_tags/{name}")
async def read_protected_tag(at: Administer, db: Db, name: Name) -> Response:
    return Json(_entity(await _existing(db, at, name)))


@router.post("/projects/{id}/protected_tags")
async def protect_tag(at: Administer, db: Db, params: Annotated[ProtectTag, Params(ProtectTag)]) -> Response:
    """`name` may hold `*`; the tag need not exist. One level each: users and groups are not named."""
    if params.create_access_level is not None and params.allowed_to_create:
        raise InvalidParams("create_access_level, allowed_to_create are mutually exclusive")
    same = select(ProtectedTag.id).where(
        ProtectedTag.project_id == at.project.id, ProtectedTag.name == params.name
    )
    if await db.scalar(same) is not None:
        raise Unprocessable(["Name has already been taken"])
    rule = ProtectedTag(project_id=at.project.id, name=params.name, create_access_level=params.level)
    db.add(rule)
    await db.flush()
    return Json(_entity(rule), 201)


@router.delete("/projects/{id}/protected_tags/{name}")
async def unprotect_tag(at: Administer, db: Db, name: Name) -> Response:
    await db.delete(await _existing(db, at, name))
    return no_content()
