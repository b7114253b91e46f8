"""`/projects/:id/access_tokens`, `/groups/:id/access_tokens`.

Source: doc/api/{project,group}_access_tokens.md, gitlabhq lib/api/resource_access_tokens.rb,
lib/api/resource_access_tokens/self_rotation.rb.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BeforeValidator
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import PersonalAccessToken
from nautilus_forge.errors import BadRequest, InvalidParams, NotAllowed, NotFound, Unauthorized
from nautilus_forge.groups.resource import Resource, resource_with
from nautilus_forge.pagination import Paged
from nautilus_forge.params import AccessLevel, Day, ParamModel, Params, path_id, split_commas
from nautilus_forge.policy import Ability, GroupAbility
from nautilus_forge.responses import Json, no_content
from nautilus_forge.tokens import bots, service
from nautilus_forge.tokens.listing import ListTokens, filtered

router = APIRouter()

See = Annotated[Resource, Depends(resource_with(Ability.READ_PROJECT, GroupAbility.READ_GROUP))]
Self = Annotated[
    Resource,
    Depends(resource_with(Ability.READ_PROJECT, GroupAbility.READ_GROUP, "api", "self_rotate")),
]
TokenId = Annotated[int, Depends(path_id("token_id"))]
Scope = Literal[
    "api",
    "read_api",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "self_rotate",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "read_observability",
    "write_observability",
    "ai_features",
]


class CreateToken(ParamModel):
    name: str
    scopes: Annotated[list[Scope], BeforeValidator(split_commas)]
    description: str | None = None
    expires_at: Day = None
    access_level: AccessLevel = 40


class Rotation(ParamModel):
    expires_at: Day = None


Rotated = Annotated[Rotation, Params(Rotation)]


@router.get("/groups/{id}/access_tokens")
@router.get("/projects/{id}/access_tokens")
async def list_tokens(
    at: See, db: Db, page: Paged, params: Annotated[ListTokens, Params(ListTokens)]
) -> Response:
    if not bots.may_manage(at):
        raise Unauthorized
    statement = filtered(bots.tokens_of(at), params)
    total = await page.count(db, statement)
    tokens = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    levels = await bots.levels_of(db, at, [token.user_id for token in tokens])
    return page.respond([bots.entity(at, token, levels.get(token.user_id)) for token in tokens], total)


@router.post("/groups/{id}/access_tokens")
@router.post("/projects/{id}/access_tokens")
async def create_token(
    at: See, db: Db, forge: TheForge, params: Annotated[CreateToken, Params(CreateToken)]
) -> Response:
    """The secret is in this answer alone."""
    if not params.scopes:
        raise InvalidParams("scopes is empty")
    token, value = await bots.create(
        db,
        forge.settings,
        at,
        name=params.name,
        scopes=list(params.scopes),
        level=params.access_level,
        expires_at=params.expires_at,
        description=params.description,
    )
    return Json(bots.entity(at, token, params.access_level) | {"token": value}, 201)


@router.post("/groups/{id}/access_tokens/self/rotate", dependencies=[Depends(service.noticing_reuse)])
@router.post("/projects/{id}/access_tokens/self/rotate", dependencies=[Depends(service.noticing_reuse)])
async def rotate_self(at: Self, db: Db, params: Rotated) -> Response:
    """By the token itself, with the scope `api` or `self_rotate`."""
    token = at.who.token
    if not isinstance(token, PersonalAccessToken) or not at.user.is_bot:
        raise NotAllowed
    if await db.scalar(bots.tokens_of(at).where(PersonalAccessToken.id == token.id)) is None:
        raise Unauthorized
    return await _rotated(db, at, await service.rotate(db, token, params.expires_at))


@router.get("/groups/{id}/access_tokens/{token_id}")
@router.get("/projects/{id}/access_tokens/{token_id}")
async def read_token(at: See, db: Db, token_id: TokenId) -> Response:
    if not bots.may_manage(at):
        raise Unauthorized
    token = await _existing(db, at, token_id)
    levels = await bots.levels_of(db, at, [token.user_id])
    return Json(bots.entity(at, token, levels.get(token.user_id)))


@router.delete("/groups/{id}/access_tokens/{token_id}")
@router.delete("/projects/{id}/access_tokens/{token_id}")
async def revoke_token(at: See, db: Db, token_id: TokenId) -> Response:
    """It stops to work at once; the bot is gone a month later."""
    token = await _existing(db, at, token_id)
    if not bots.may_manage(at):
        raise BadRequest(f"{at.user.name} cannot delete {token.name}")
    service.revoke(token)
    return no_content()


@router.post("/groups/{id}/access_tokens/{token_id}/rotate")
@router.post("/projects/{id}/access_tokens/{token_id}/rotate")
async def rotate_token(at: See, db: Db, token_id: TokenId, params: Rotated) -> Response:
    """Only administrators are told that there is no such token."""
    token = None
    if bots.may_create(at):  # a bot would get the secrets of others
        token = await db.scalar(bots.tokens_of(at).where(PersonalAccessToken.id == token_id))
    if token is None:
        raise NotFound if at.user.is_admin else Unauthorized
    return await _rotated(db, at, await bots.rotate(db, at, token, params.expires_at))


async def _rotated(db: AsyncSession, at: Resource, made: tuple[PersonalAccessToken, str]) -> Response:
    token, value = made
    levels = await bots.levels_of(db, at, [token.user_id])
    return Json(bots.entity(at, token, levels.get(token.user_id)) | {"token": value})


async def _existing(db: AsyncSession, at: Resource, token_id: int) -> PersonalAccessToken:
    token = await db.scalar(bots.tokens_of(at).where(PersonalAccessToken.id == token_id))
    if token is None:
        raise NotFound(f"{at.kind} Access Token")
    return token
