"""`/deploy_tokens`, and those of projects and groups.

Source: doc/api/deploy_tokens.md, gitlabhq lib/api/deploy_tokens.rb.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BeforeValidator
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import DeployToken
from nautilus_forge.deploy_tokens import service
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.groups.resource import Resource, resource_with
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import ParamModel, Params, path_id, split_commas
from nautilus_forge.policy import Ability, GroupAbility
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Read = Annotated[Resource, Depends(resource_with(Ability.ADMIN_PROJECT, GroupAbility.READ_DEPLOY_TOKEN))]
Administer = Annotated[
    Resource, Depends(resource_with(Ability.ADMIN_PROJECT, GroupAbility.ADMIN_DEPLOY_TOKEN))
]
TokenId = Annotated[int, Depends(path_id("token_id"))]
Scope = Literal[
    "read_repository",
    "read_registry",
    "write_registry",
    "read_package_registry",
    "write_package_registry",
    "read_virtual_registry",
    "write_virtual_registry",
]


class ListDeployTokens(ParamModel):
    active: bool = False


class CreateDeployToken(ParamModel):
    name: str
    scopes: Annotated[list[Scope], BeforeValidator(split_commas)]
    expires_at: datetime | date | None = None
    username: str | None = None


Filter = Annotated[ListDeployTokens, Params(ListDeployTokens)]


async def _page(
    db: AsyncSession, page: Page, statement: Select[DeployToken], params: ListDeployTokens
) -> Response:
    if params.active:
        statement = statement.where(service.is_active())
    return await page.of(db, statement.order_by(DeployToken.id.desc()), service.entity)


def _of(at: Resource) -> Select[DeployToken]:
    column: Any = DeployToken.project_id if at.kind == "project" else DeployToken.namespace_id
    return select(DeployToken).where(column == at.id)


@router.get("/deploy_tokens")
async def list_all(who: Admin, db: Db, page: Paged, params: Filter) -> Response:
    return await _page(db, page, select(DeployToken), params)


@router.get("/groups/{id}/deploy_tokens")
@router.get("/projects/{id}/deploy_tokens")
async def list_tokens(at: Read, db: Db, page: Paged, params: Filter) -> Response:
    return await _page(db, page, _of(at), params)


@router.post("/groups/{id}/deploy_tokens")
@router.post("/projects/{id}/deploy_tokens")
async def create_token(
    at: Administer, db: Db, params: Annotated[CreateDeployToken, Params(CreateDeployToken)]
) -> Response:
    """The secret is in this answer alone."""
    if not params.scopes:
        raise BadRequest(message={"base": ["Scopes can't be blank"]})
    token, value = await service.create(
        db,
        project_id=at.project_id,
        namespace_id=at.namespace_id,
        creator_id=at.user.id,
        name=params.name,
        username=params.username,
        scopes=list(params.scopes),
        expires_at=_moment(params.expires_at),
    )
    return Json(service.entity(token) | {"token": value}, 201)


def _moment(value: datetime | date | None) -> datetime | None:
    """A day alone: its beginning, in UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


@router.get("/groups/{id}/deploy_tokens/{token_id}")
@router.get("/projects/{id}/deploy_tokens/{token_id}")
async def read_token(at: Read, db: Db, token_id: TokenId) -> Response:
    return Json(service.entity(await _existing(db, at, token_id)))


@router.delete("/groups/{id}/deploy_tokens/{token_id}")
@router.delete("/projects/{id}/deploy_tokens/{token_id}")
async def remove_token(at: Administer, db: Db, token_id: TokenId) -> Response:
    """It stops to work at once."""
    await db.delete(await _existing(db, at, token_id))
    return no_content()


async def _existing(db: AsyncSession, at: Resource, token_id: int) -> DeployToken:
    token = await db.scalar(_of(at).where(DeployToken.id == token_id))
    if token is None:
        raise NotFound
    return token
