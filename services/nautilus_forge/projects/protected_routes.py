"""Protected branches.

Source: doc/api/protected_branches.md, gitlabhq lib/api/protected_branches.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import ProtectedBranch
from nautilus_forge.errors import Conflict, NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.params import RefLevel
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.queries import like

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.PUSH_CODE, anonymous=False))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROTECTED))]
Name = Annotated[str, Depends(path_text("name"))]

_WORDS = {0: "No one", 30: "Developers + Maintainers", 40: "Maintainers", 60: "Instance admins"}


class Protect(ParamModel):
    name: str = Field(min_length=1, max_length=255)
    push_access_level: RefLevel = 40
    merge_access_level: RefLevel = 40
    allow_force_push: bool = False


class ChangeProtection(ParamModel):
    allow_force_push: bool = False


class ListProtected(ParamModel):
    search: str | None = None


def _entity(rule: ProtectedBranch) -> dict[str, Any]:
    """Source: lib/api/entities/protected_branch.rb."""
    return {
        "id": rule.id,
        "name": rule.name,
        "push_access_levels": [_level(rule.id, rule.push_access_level)],
        "merge_access_levels": [_level(rule.id, rule.merge_access_level)],
        "allow_force_push": rule.allow_force_push,
        "unprotect_access_levels": [],
        "code_owner_approval_required": False,
        "inherited": False,
    }


def _level(rule_id: int, level: int) -> dict[str, Any]:
    return {
        "id": rule_id,
        "access_level": level,
        "access_level_description": _WORDS[level],
        "deploy_key_id": None,
    }


async def _existing(db: AsyncSession, at: ProjectAccess, name: str) -> ProtectedBranch:
    found = await db.scalar(
        select(ProtectedBranch).where(
            ProtectedBranch.project_id == at.project.id, ProtectedBranch.name == name
        )
    )
    if found is None:
        raise NotFound
    return found


@router.get("/projects/{id}/protected_branches")
async def list_protected(
    at: Read, db: Db, page: Paged, params: Annotated[ListProtected, Params(ListProtected)]
) -> Response:
    statement = select(ProtectedBranch).where(ProtectedBranch.project_id == at.project.id)
    if params.search:
        statement = statement.where(ProtectedBranch.name.ilike(like(params.search)))
    return await page.of(db, statement.order_by(ProtectedBranch.name), _entity)


@router.get("/projects/{id}/protected_branches/{name}")
async def read_protected(at: Read, db: Db, name: Name) -> Response:
    return Json(_entity(await _existing(db, at, name)))


@router.post("/projects/{id}/protected_branches")
async def protect(at: Administer, db: Db, params: Annotated[Protect, Params(Protect)]) -> Response:
    """`name` may hold `*`; the branch need not exist."""
    statement = select(ProtectedBranch.id).where(
        ProtectedBranch.project_id == at.project.id, ProtectedBranch.name == params.name
    )
    if await db.scalar(statement) is not None:
        raise Conflict(f"Protected branch '{params.name}' already exists")
    rule = ProtectedBranch(project_id=at.project.id, **params.model_dump())
    db.add(rule)
    await db.flush()
    return Json(_entity(rule), 201)


@router.patch("/projects/{id}/protected_branches/{name}")
async def change_protection(
    at: Administer, db: Db, name: Name, params: Annotated[ChangeProtection, Params(ChangeProtection)]
) -> Response:
    rule = await _existing(db, at, name)
    if "allow_force_push" in params.model_fields_set:
        rule.allow_force_push = params.allow_force_push
    await db.flush()
    return Json(_entity(rule))


@router.delete("/projects/{id}/protected_branches/{name}")
async def unprotect(at: Administer, db: Db, name: Name) -> Response:
    await db.delete(await _existing(db, at, name))
    return no_content()
