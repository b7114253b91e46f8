"""Stored variables of projects, and of the instance.

Source: doc/api/project_level_variables.md, doc/api/instance_level_ci_variables.md,
GitLab lib/api/ci/variables.rb, lib/api/admin/ci/variables.rb.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Variable
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.variables import service
from nautilus_forge.variables.service import INSTANCE, Holder

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_VARIABLE, anonymous=False))]
Writable = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_VARIABLE))]
Key = Annotated[str, Depends(path_text("key"))]
Kind = Literal["env_var", "file"]
_MAX_VALUE = 65_536


class Filter(ParamModel):
    environment_scope: str | None = None


class Filtered(ParamModel):
    filter: Filter = Filter()


class CreateVariable(ParamModel):
    key: str
    value: str = Field(max_length=_MAX_VALUE)
    protected: bool = False
    masked: bool = False
    masked_and_hidden: bool = False
    raw: bool = False
    variable_type: Kind = "env_var"
    environment_scope: str = "*"
    description: str | None = None


class UpdateVariable(Filtered):
    value: str | None = Field(default=None, max_length=_MAX_VALUE)
    protected: bool | None = None
    masked: bool | None = None
    raw: bool | None = None
    variable_type: Kind | None = None
    environment_scope: str | None = None
    description: str | None = None


def shown(ci: CiHalf, variable: Variable) -> dict[str, Any]:
    """A hidden variable's value is never shown again. Source: lib/api/entities/ci/variable.rb."""
    return {
        "variable_type": variable.variable_type,
        "key": variable.key,
        "value": None if variable.is_hidden else ci.cipher.decrypt(variable.value),
        "hidden": variable.is_hidden,
        "protected": variable.is_protected,
        "masked": variable.is_masked,
        "raw": variable.is_raw,
        "environment_scope": variable.environment_scope,
        "description": variable.description,
    }


def shown_of_instance(ci: CiHalf, variable: Variable) -> dict[str, Any]:
    """Without what the instance's variables do not have."""
    left_out = ("hidden", "environment_scope")
    return {key: value for key, value in shown(ci, variable).items() if key not in left_out}


@router.get("/projects/{id}/variables")
async def list_variables(at: Readable, db: Db, ci: Ci, page: Paged) -> Response:
    return await page.of(db, service.select_all(Holder(at.project.id)), lambda variable: shown(ci, variable))


@router.post("/projects/{id}/variables")
async def create_variable(
    at: Writable, db: Db, ci: Ci, params: Annotated[CreateVariable, Params(CreateVariable)]
) -> Response:
    return Json(
        shown(ci, await service.create(db, ci.cipher, Holder(at.project.id), params.model_dump())), 201
    )


@router.get("/projects/{id}/variables/{key}")
async def read_variable(
    at: Readable, db: Db, ci: Ci, key: Key, params: Annotated[Filtered, Params(Filtered)]
) -> Response:
    scope = params.filter.environment_scope
    return Json(shown(ci, await service.find(db, Holder(at.project.id), key, scope)))


@router.put("/projects/{id}/variables/{key}")
async def update_variable(
    at: Writable, db: Db, ci: Ci, key: Key, params: Annotated[UpdateVariable, Params(UpdateVariable)]
) -> Response:
    variable = await service.find(db, Holder(at.project.id), key, params.filter.environment_scope)
    return Json(shown(ci, await service.change(db, ci.cipher, variable, params.given())))


@router.delete("/projects/{id}/variables/{key}")
async def delete_variable(
    at: Writable, db: Db, key: Key, params: Annotated[Filtered, Params(Filtered)]
) -> Response:
    await db.delete(await service.find(db, Holder(at.project.id), key, params.filter.environment_scope))
    return no_content()


@router.get("/admin/ci/variables")
async def list_of_instance(who: Admin, db: Db, ci: Ci, page: Paged) -> Response:
    return await page.of(db, service.select_all(INSTANCE), lambda variable: shown_of_instance(ci, variable))


@router.post("/admin/ci/variables")
async def create_of_instance(
    who: Admin, db: Db, ci: Ci, params: Annotated[CreateVariable, Params(CreateVariable)]
) -> Response:
    given = params.model_dump(exclude={"environment_scope", "masked_and_hidden"})
    return Json(shown_of_instance(ci, await service.create(db, ci.cipher, INSTANCE, given)), 201)


@router.get("/admin/ci/variables/{key}")
async def read_of_instance(who: Admin, db: Db, ci: Ci, key: Key) -> Response:
    return Json(shown_of_instance(ci, await service.find(db, INSTANCE, key, None)))


@router.put("/admin/ci/variables/{key}")
async def update_of_instance(
    who: Admin, db: Db, ci: Ci, key: Key, params: Annotated[UpdateVariable, Params(UpdateVariable)]
) -> Response:
    given = {k: v for k, v in params.given().items() if k not in ("environment_scope", "filter")}
    variable = await service.find(db, INSTANCE, key, None)
    return Json(shown_of_instance(ci, await service.change(db, ci.cipher, variable, given)))


@router.delete("/admin/ci/variables/{key}")
async def delete_of_instance(who: Admin, db: Db, key: Key) -> Response:
    await db.delete(await service.find(db, INSTANCE, key, None))
    return no_content()
