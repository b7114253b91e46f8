"""Personal access tokens and impersonation tokens.

Source: doc/api/personal_access_tokens.md, doc/api/user_tokens.md.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin, Principal, Who, authenticated
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import PersonalAccessToken, User
from nautilus_forge.errors import BadRequest, InvalidParams, NotAllowed, NotFound, Unauthorized
from nautilus_forge.pagination import Paged
from nautilus_forge.params import CommaList, Day, ParamModel, Params, path_id
from nautilus_forge.responses import Json, no_content
from nautilus_forge.tokens import service
from nautilus_forge.tokens.listing import ListTokens, filtered
from nautilus_forge.users.queries import existing_user

router = APIRouter()

UserId = Annotated[int, Depends(path_id("user_id", "User"))]
TokenId = Annotated[int, Depends(path_id("id"))]
AnyToken = Annotated[Principal, Depends(authenticated(*service.SCOPES, *service.ADMIN_SCOPES))]
Rotator = Annotated[Principal, Depends(authenticated("api", "self_rotate"))]

_SELF_SCOPES = frozenset({"k8s_proxy", "self_rotate"})
"""What a token may grant that its owner makes by the API. Source: lib/api/users.rb."""


class NewToken(ParamModel):
    name: str
    scopes: CommaList
    description: str | None = None
    expires_at: Day = None


class NewImpersonationToken(NewToken):
    scopes: CommaList = []  # noqa: RUF012


class Rotation(ParamModel):
    expires_at: Day = None


@router.post("/users/{user_id}/personal_access_tokens")
async def create_for_user(
    who: Admin, db: Db, user_id: UserId, params: Annotated[NewToken, Params(NewToken)]
) -> Response:
    """Source: doc/api/user_tokens.md ("Create a personal access token for a user"); administrators only."""
    user = await existing_user(db, user_id)
    return await _created(db, user, params)


@router.post("/user/personal_access_tokens")
async def create_for_myself(who: Who, db: Db, params: Annotated[NewToken, Params(NewToken)]) -> Response:
    """Source: doc/api/user_tokens.md; only the scopes `k8s_proxy` and `self_rotate`, as in GitLab."""
    if not _SELF_SCOPES.issuperset(params.scopes):
        raise InvalidParams("scopes does not have a valid value")
    return await _created(db, who.require_user(), params)


async def _created(
    db: AsyncSession, user: User, params: NewToken, *, impersonation: bool = False
) -> Response:
    token, value = await service.create_token(
        db,
        user,
        name=params.name,
        scopes=params.scopes,
        expires_at=params.expires_at,
        description=params.description,
        is_impersonation=impersonation,
    )
    shown = _impersonation(token) if impersonation else service.entity(token)
    return Json(shown | {"token": value}, 201)


@router.get("/personal_access_tokens")
async def list_tokens(
    who: Who, db: Db, page: Paged, params: Annotated[ListTokens, Params(ListTokens)]
) -> Response:
    """Source: doc/api/personal_access_tokens.md; one's own, for administrators everybody's."""
    user = who.require_user()
    statement = select(PersonalAccessToken).where(PersonalAccessToken.is_impersonation.is_(False))
    if params.user_id is not None and params.user_id != user.id and not user.is_admin:
        raise Unauthorized
    if not user.is_admin:
        statement = statement.where(PersonalAccessToken.user_id == user.id)
    elif params.user_id is not None:
        statement = statement.where(PersonalAccessToken.user_id == params.user_id)
    return await page.of(db, filtered(statement, params), service.entity)


@router.get("/personal_access_tokens/self")
async def read_self(who: AnyToken, db: Db) -> Response:
    """Source: doc/api/personal_access_tokens.md ("Get details on a personal access token"); any scope does."""
    return Json(service.entity(_own_token(who)))


@router.delete("/personal_access_tokens/self")
async def revoke_self(who: AnyToken, db: Db) -> Response:
    service.revoke(_own_token(who))
    return no_content()


@router.post("/personal_access_tokens/self/rotate", dependencies=[Depends(service.noticing_reuse)])
async def rotate_self(who: Rotator, db: Db, params: Annotated[Rotation, Params(Rotation)]) -> Response:
    if not isinstance(who.token, PersonalAccessToken):
        raise NotAllowed
    token, value = await service.rotate(db, who.token, params.expires_at)
    return Json(service.entity(token) | {"token": value})


def _own_token(who: Principal) -> PersonalAccessToken:
    if not isinstance(who.token, PersonalAccessToken):
        raise BadRequest("This endpoint requires token type to be a personal access token")
    return who.token


@router.get("/personal_access_tokens/{id}")
async def read_token(who: Who, db: Db, id: TokenId) -> Response:
    return Json(_with_addresses(await _visible(db, who, id)))


def _with_addresses(token: PersonalAccessToken) -> dict[str, object]:
    """Where a token is used from is not kept, so the list is empty."""
    return service.entity(token) | {"last_used_ips": []}


@router.delete("/personal_access_tokens/{id}")
async def revoke_token(who: Who, db: Db, id: TokenId) -> Response:
    service.revoke(await _visible(db, who, id))
    return no_content()


@router.post("/personal_access_tokens/{id}/rotate")
async def rotate_token(
    who: Who, db: Db, id: TokenId, params: Annotated[Rotation, Params(Rotation)]
) -> Response:
    token, value = await service.rotate(db, await _visible(db, who, id), params.expires_at)
    return Json(service.entity(token) | {"token": value})


async def _visible(db: AsyncSession, who: Principal, token_id: int) -> PersonalAccessToken:
    """Raises `NotFound` for administrators, `Unauthorized` for others: existence is not told."""
    user = who.require_user()
    token = await db.get(PersonalAccessToken, token_id)
    if token is not None and (user.is_admin or token.user_id == user.id):
        return token
    if user.is_admin:
        raise NotFound
    raise Unauthorized


@router.get("/users/{user_id}/impersonation_tokens")
async def list_impersonation(
    who: Admin, db: Db, page: Paged, user_id: UserId, params: Annotated[ListTokens, Params(ListTokens)]
) -> Response:
    await existing_user(db, user_id)
    statement = select(PersonalAccessToken).where(
        PersonalAccessToken.user_id == user_id, PersonalAccessToken.is_impersonation
    )
    return await page.of(db, filtered(statement, params), _impersonation)


@router.post("/users/{user_id}/impersonation_tokens")
async def create_impersonation(
    who: Admin,
    db: Db,
    user_id: UserId,
    params: Annotated[NewImpersonationToken, Params(NewImpersonationToken)],
) -> Response:
    user = await existing_user(db, user_id)
    if not params.scopes:
        params = params.model_copy(update={"scopes": ["api"]})
    return await _created(db, user, params, impersonation=True)


@router.get("/users/{user_id}/impersonation_tokens/{id}")
async def read_impersonation(who: Admin, db: Db, user_id: UserId, id: TokenId) -> Response:
    return Json(_impersonation(await _impersonation_token(db, user_id, id)))


@router.delete("/users/{user_id}/impersonation_tokens/{id}")
async def revoke_impersonation(who: Admin, db: Db, user_id: UserId, id: TokenId) -> Response:
    service.revoke(await _impersonation_token(db, user_id, id))
    return no_content()


def _impersonation(token: PersonalAccessToken) -> dict[str, object]:
    return service.entity(token) | {"impersonation": True}


async def _impersonation_token(db: AsyncSession, user_id: int, token_id: int) -> PersonalAccessToken:
    token = await db.get(PersonalAccessToken, token_id)
    if token is None or token.user_id != user_id or not token.is_impersonation:
        raise NotFound("Impersonation Token")
    return token
