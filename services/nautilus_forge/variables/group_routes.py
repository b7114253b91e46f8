"""Stored variables of groups; jobs of all projects below a group get them.

Source: doc/api/group_level_variables.md, GitLab lib/api/group_variables.rb, app/policies/group_policy.rb
(`admin_cicd_variables` belongs to owners).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Variable
from nautilus_forge.groups.access import GroupAccess, group_with
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Params
from nautilus_forge.policy import GroupAbility
from nautilus_forge.responses import Json, no_content
from nautilus_forge.variables import service
from nautilus_forge.variables.routes import CreateVariable, Filtered, Key, UpdateVariable, shown
from nautilus_forge.variables.service import Holder

router = APIRouter()


Group = Annotated[GroupAccess, Depends(group_with(GroupAbility.ADMIN_VARIABLE, anonymous=False))]


def _holder(at: GroupAccess) -> Holder:
    return Holder(namespace_id=at.group.id)


async def _find(db: AsyncSession, at: GroupAccess, key: str, params: Filtered) -> Variable:
    return await service.find(db, _holder(at), key, params.filter.environment_scope)


@router.get("/groups/{id}/variables")
async def list_variables(at: Group, db: Db, ci: Ci, page: Paged) -> Response:
    return await page.of(db, service.select_all(_holder(at)), lambda variable: shown(ci, variable))


@router.post("/groups/{id}/variables")
async def create_variable(
    at: Group, db: Db, ci: Ci, params: Annotated[CreateVariable, Params(CreateVariable)]
) -> Response:
    return Json(shown(ci, await service.create(db, ci.cipher, _holder(at), params.model_dump())), 201)


@router.get("/groups/{id}/variables/{key}")
async def read_variable(
    at: Group, db: Db, ci: Ci, key: Key, params: Annotated[Filtered, Params(Filtered)]
) -> Response:
    return Json(shown(ci, await _find(db, at, key, params)))


@router.put("/groups/{id}/variables/{key}")
async def update_variable(
    at: Group, db: Db, ci: Ci, key: Key, params: Annotated[UpdateVariable, Params(UpdateVariable)]
) -> Response:
    scope = params.filter.environment_scope
    is_filtered = "filter" in params.model_fields_set
    variable = await service.find(db, _holder(at), key, scope, takes_first=not is_filtered)
    return Json(shown(ci, await service.change(db, ci.cipher, variable, params.given())))


@router.delete("/groups/{id}/variables/{key}")
async def delete_variable(
    at: Group, db: Db, key: Key, params: Annotated[Filtered, Params(Filtered)]
) -> Response:
    await db.delete(await _find(db, at, key, params))
    return no_content()
