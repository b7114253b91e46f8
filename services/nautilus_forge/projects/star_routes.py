"""Stars, and the lists of projects by user that hang on people.

Source: doc/api/project_starring.md, gitlabhq lib/api/projects.rb, lib/api/entities/user_stars_project.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import or_, select
from starlette.responses import Response

from nautilus_forge.auth import MaybeWho, find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Event, Project, Star, User
from nautilus_forge.errors import NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects import listing, queries, stars
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.params import ListProjects
from nautilus_forge.responses import Json, timestamp
from nautilus_forge.users.entities import user_basic
from nautilus_forge.users.queries import like

router = APIRouter()

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT))]


_CONTRIBUTION_TIME = timedelta(days=365)
"""Source: gitlabhq app/finders/contributed_projects_finder.rb, Event.contributions."""


class Search(ParamModel):
    search: str | None = None


@router.post("/projects/{id}/star")
async def star_project(at: Read, db: Db, forge: TheForge) -> Response:
    """304 for a second star."""
    if not await stars.give(db, at.who.require_user().id, at.project):
        return Response(status_code=304)
    return Json((await listing.shown(db, forge, at.user, [at.project]))[0], 201)


@router.post("/projects/{id}/unstar")
async def unstar_project(at: Read, db: Db, forge: TheForge) -> Response:
    """304 where there is none."""
    if not await stars.take(db, at.who.require_user().id, at.project):
        return Response(status_code=304)
    return Json((await listing.shown(db, forge, at.user, [at.project]))[0], 201)


@router.get("/projects/{id}/starrers")
async def list_starrers(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[Search, Params(Search)]
) -> Response:
    """Active users, the newest star first."""
    statement = (
        select(Star.created_at, User)
        .join(User, User.id == Star.user_id)
        .where(Star.project_id == at.project.id, User.state == "active")
        .order_by(Star.id.desc())
    )
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(User.name.ilike(pattern), User.username.ilike(pattern)))
    total = await page.count(db, statement.with_only_columns(Star.id))
    rows = (await db.execute(statement.limit(page.per_page).offset(page.offset))).all()
    return page.respond(
        [
            {"starred_since": timestamp(since), "user": user_basic(forge.settings, user)}
            for since, user in rows
        ],
        total,
    )


@router.get("/users/{user_id}/starred_projects")
async def list_starred_projects(
    who: MaybeWho,
    db: Db,
    forge: TheForge,
    page: Paged,
    user_id: Annotated[str, Depends(path_text("user_id"))],
    params: Annotated[ListProjects, Params(ListProjects)],
) -> Response:
    """Those that the user has starred, as far as one may see them."""
    user = await find_user(db, user_id)
    if user is None:
        raise NotFound("User")
    statement = listing.filtered(who.user, params).where(queries.starred_by(user))
    return await listing.listed(db, forge, who, page, params, statement)


class Contributed(ParamModel):
    order_by: Literal["id", "name", "path", "created_at", "updated_at", "last_activity_at"] = "created_at"
    sort: Literal["asc", "desc"] = "desc"
    simple: bool = False


@router.get("/users/{user_id}/contributed_projects")
async def list_contributed_projects(
    who: MaybeWho,
    db: Db,
    forge: TheForge,
    page: Paged,
    user_id: Annotated[str, Depends(path_text("user_id"))],
    params: Annotated[Contributed, Params(Contributed)],
) -> Response:
    """Those with an event of the user's in the last year, as far as one may see them."""
    user = await find_user(db, user_id)
    if user is None:
        raise NotFound("User")
    recent = select(Event.project_id).where(
        Event.author_id == user.id, Event.created_at > datetime.now(UTC) - _CONTRIBUTION_TIME
    )
    given = ListProjects(order_by=params.order_by, sort=params.sort, simple=params.simple)
    statement = listing.filtered(who.user, given).where(Project.id.in_(recent))
    return await listing.listed(db, forge, who, page, given, statement)
