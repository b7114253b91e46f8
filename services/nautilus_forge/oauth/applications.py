"""`/applications`: administrators register OAuth clients.

Source: doc/api/applications.md, gitlabhq lib/api/applications.rb. `trusted` (no consent page) is GitLab's
administrators' page setting; GitLab's own API does not take it and ignores it.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Admin
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import OAuthApplication
from nautilus_forge.errors import InvalidRecord, NotFound
from nautilus_forge.oauth import scopes
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id
from nautilus_forge.responses import Json, no_content
from nautilus_forge.tokens import secret

router = APIRouter()

ApplicationId = Annotated[int, Depends(path_id("id", "Application"))]


class NewApplication(ParamModel):
    name: str = Field(min_length=1, max_length=255)
    redirect_uri: str = Field(min_length=1)
    scopes: str = Field(min_length=1)
    confidential: bool = True
    trusted: bool = False


def redirect_problems(uris: list[str]) -> list[str]:
    """Absolute, without fragment, and no scheme that a browser would run."""
    problems = []
    for uri in uris:
        parts = urlsplit(uri)
        if not parts.scheme or (parts.scheme in ("http", "https") and not parts.netloc):
            problems.append("must be an absolute URI.")
        elif parts.fragment:
            problems.append("cannot contain a fragment.")
        elif parts.scheme.lower() in ("javascript", "data", "vbscript", "file"):
            problems.append("is forbidden by the server.")
    return list(dict.fromkeys(problems)) if uris else ["can't be blank"]


def _entity(application: OAuthApplication) -> dict[str, Any]:
    """Source: lib/api/entities/application.rb."""
    return {
        "id": application.id,
        "application_id": application.uid,
        "application_name": application.name,
        "callback_url": application.redirect_uri,
        "confidential": application.is_confidential,
    }


def _new_secret() -> str:
    return secret.generate(secret.OAUTH_SECRET)


@router.post("/applications")
async def create_application(
    who: Admin, db: Db, params: Annotated[NewApplication, Params(NewApplication)]
) -> Response:
    """The secret is shown here and never again."""
    uris, wanted = params.redirect_uri.split(), scopes.parse(params.scopes)
    problems = {"redirect_uri": redirect_problems(uris)}
    if not wanted or scopes.unknown(wanted):
        problems["scopes"] = ["doesn't match configured on the server."]
    if any(problems.values()):
        raise InvalidRecord({field: words for field, words in problems.items() if words})
    value = _new_secret()
    application = OAuthApplication(
        uid=secrets.token_hex(32),
        secret_digest=secret.digest(value),
        name=params.name,
        redirect_uri="\n".join(uris),
        scopes=" ".join(wanted),
        is_confidential=params.confidential,
        is_trusted=params.trusted,
    )
    db.add(application)
    await db.flush()
    return Json(_entity(application) | {"secret": value}, 201)


@router.get("/applications")
async def list_applications(who: Admin, db: Db, page: Paged) -> Response:
    return await page.of(db, select(OAuthApplication).order_by(OAuthApplication.id), _entity)


@router.post("/applications/{id}/renew-secret")
async def renew_secret(who: Admin, db: Db, id: ApplicationId) -> Response:
    application = await _existing(db, id)
    value = _new_secret()
    application.secret_digest = secret.digest(value)
    return Json(_entity(application) | {"secret": value}, 201)


@router.delete("/applications/{id}")
async def delete_application(who: Admin, db: Db, id: ApplicationId) -> Response:
    """Its grants and tokens go with it."""
    await db.delete(await _existing(db, id))
    return no_content()


async def _existing(db: AsyncSession, application_id: int) -> OAuthApplication:
    application = await db.get(OAuthApplication, application_id)
    if application is None:
        raise NotFound("Application")
    return application
