"""`/events`, `/users/:id/events`, `/projects/:id/events`.

Source: doc/api/events.md, gitlabhq lib/api/{events,project_events}.rb, app/finders/events_finder.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Principal, authenticated, find_user
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Event, Project
from nautilus_forge.errors import NotFound
from nautilus_forge.events.showing import show
from nautilus_forge.forge import Forge
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import Day, ParamModel, Params, path_text
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.projects.queries import belongs_to, visible_to
from nautilus_forge.users.attributes import attribute

router = APIRouter()

_SCOPES = ("api", "read_api", "read_user")
Reader = Annotated[Principal, Depends(authenticated(*_SCOPES))]
MaybeReader = Annotated[Principal, Depends(authenticated(*_SCOPES, anonymous=True))]
OfProject = Annotated[ProjectAccess, Depends(project_with(Ability.READ_PROJECT))]
UserName = Annotated[str, Depends(path_text("id"))]

Action = Literal[
    "created",
    "updated",
    "closed",
    "reopened",
    "pushed",
    "commented",
    "merged",
    "joined",
    "left",
    "destroyed",
    "expired",
    "approved",
]
TargetType = Literal[
    "issue", "milestone", "merge_request", "note", "project", "snippet", "user", "wiki", "design"
]
_TARGETS = {"merge_request": ("merge_request",), "note": ("merge_request_note", "commit_note")}


class ListEvents(ParamModel):
    """`before`, `after`: days, themselves not included."""

    action: Action | None = None
    target_type: TargetType | None = None
    before: Day = None
    after: Day = None
    sort: Literal["asc", "desc"] = "desc"


class ListOwnEvents(ListEvents):
    scope: str | None = None


@router.get("/events")
async def list_own(
    who: Reader,
    db: Db,
    forge: TheForge,
    page: Paged,
    params: Annotated[ListOwnEvents, Params(ListOwnEvents)],
) -> Response:
    """One's own; with `scope=all` everybody's in the projects that one is a member of."""
    user = who.require_user()
    statement = _visible(who)
    if params.scope == "all":
        mine = select(Project.id).where(Project.deleted_at.is_(None), belongs_to(user, Level.GUEST))
        statement = statement.where(Event.project_id.in_(mine))
    else:
        statement = statement.where(Event.author_id == user.id)
    return await _page(db, forge, who, page, statement, params)


@router.get("/users/{id}/events")
async def list_of_user(
    who: MaybeReader,
    db: Db,
    forge: TheForge,
    page: Paged,
    name: UserName,
    params: Annotated[ListEvents, Params(ListEvents)],
) -> Response:
    """404 for nobody of that name; nothing of somebody with a private profile."""
    user = await find_user(db, name)
    if user is None:
        raise NotFound("User")
    statement = _visible(who).where(Event.author_id == user.id)
    viewer = who.user
    is_hidden = bool(attribute(user, "private_profile"))
    if is_hidden and not (viewer is not None and (viewer.id == user.id or viewer.is_admin)):
        return page.respond([], 0)
    return await _page(db, forge, who, page, statement, params)


@router.get("/projects/{id}/events")
async def list_of_project(
    at: OfProject,
    db: Db,
    forge: TheForge,
    page: Paged,
    params: Annotated[ListEvents, Params(ListEvents)],
) -> Response:
    statement = select(Event).where(Event.project_id == at.project.id)
    return await _page(db, forge, at.who, page, statement, params)


def _visible(who: Principal) -> Select[Event]:
    """Of projects that the viewer sees."""
    projects = visible_to(who.user).with_only_columns(Project.id)
    return select(Event).where(Event.project_id.in_(projects))


async def _page(
    db: AsyncSession,
    forge: Forge,
    who: Principal,
    page: Page,
    statement: Select[Event],
    params: ListEvents,
) -> Response:
    """As in GitLab what the viewer may not see of a page is left out of it, and counted all the same."""
    statement = _filtered(statement, params)
    total = await page.count(db, statement)
    order = Event.id.asc() if params.sort == "asc" else Event.id.desc()
    rows = (await db.scalars(statement.order_by(order).limit(page.per_page).offset(page.offset))).all()
    return page.respond(await show(db, forge, who, rows), total)


def _filtered(statement: Select[Event], params: ListEvents) -> Select[Event]:
    if params.action is not None:
        statement = statement.where(Event.action == params.action)
    if params.target_type is not None:
        statement = statement.where(Event.target.in_(_TARGETS.get(params.target_type, ())))
    if params.before is not None:
        statement = statement.where(Event.created_at < _midnight(params.before))
    if params.after is not None:
        statement = statement.where(Event.created_at >= _midnight(params.after) + timedelta(days=1))
    return statement


def _midnight(day: object) -> datetime:
    return datetime.fromisoformat(str(day)).replace(tzinfo=UTC)
