"""What belongs to a user: addresses, status, preferences, memberships, last activity.

Source: doc/api/{users,user_email_addresses}.md, gitlabhq lib/api/users.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import func, select
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import Admin, MaybeWho, Principal, Who, authenticated, find_user
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Member, MergeRequest, Namespace, Project, User
from nautilus_forge.errors import Forbidden, InvalidParams, InvalidRecord, NotFound
from nautilus_forge.namespaces.level import counts
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Day, Field, ParamModel, Params, path_id, path_text
from nautilus_forge.responses import Json, day, no_content
from nautilus_forge.users import attributes, emails, queries

router = APIRouter()

UserId = Annotated[int, Depends(path_id("id", "User"))]
UserRef = Annotated[str, Depends(path_text("id"))]
EmailId = Annotated[int, Depends(path_id("email_id", "Email"))]
Reader = Annotated[Principal, Depends(authenticated("api", "read_api", "read_user"))]


class AddEmail(ParamModel):
    email: str


class SetStatus(ParamModel):
    emoji: str | None = None
    message: str | None = None
    availability: Literal["not_set", "busy"] | None = None
    clear_status_after: (
        Literal["30_minutes", "3_hours", "8_hours", "1_day", "3_days", "7_days", "30_days"] | None
    ) = None


class SetPreferences(ParamModel):
    view_diffs_file_by_file: bool | None = None
    show_whitespace_in_diffs: bool | None = None
    pass_user_identities_to_ci_jwt: bool | None = None


class ListMemberships(ParamModel):
    type: Literal["Project", "Namespace"] | None = None


class ListActivities(ParamModel):
    since: Day = Field(default=None, validation_alias="from")


Adding = Annotated[AddEmail, Params(AddEmail)]


@router.get("/user/emails")
async def list_own_emails(who: Reader, db: Db, page: Paged) -> Response:
    return await page.of(db, emails.of(who.require_user()), emails.entity)


@router.post("/user/emails")
async def add_own_email(who: Who, db: Db, params: Adding) -> Response:
    return Json(emails.entity(await emails.add(db, who.require_user(), params.email)), 201)


@router.get("/user/emails/{email_id}")
async def read_own_email(who: Reader, db: Db, email_id: EmailId) -> Response:
    return Json(emails.entity(await emails.existing(db, who.require_user(), email_id)))


@router.delete("/user/emails/{email_id}")
async def remove_own_email(who: Who, db: Db, email_id: EmailId) -> Response:
    await db.delete(await emails.existing(db, who.require_user(), email_id))
    return no_content()


@router.get("/users/{id}/emails")
async def list_emails(who: Admin, db: Db, page: Paged, id: UserId) -> Response:
    return await page.of(db, emails.of(await queries.existing_user(db, id)), emails.entity)


@router.post("/users/{id}/emails")
async def add_email(who: Admin, db: Db, id: UserId, params: Adding) -> Response:
    return Json(emails.entity(await emails.add(db, await queries.existing_user(db, id), params.email)), 201)


@router.delete("/users/{id}/emails/{email_id}")
async def remove_email(who: Admin, db: Db, id: UserId, email_id: EmailId) -> Response:
    await db.delete(await emails.existing(db, await queries.existing_user(db, id), email_id))
    return no_content()


@router.get("/user/status")
async def read_own_status(who: Reader) -> Response:
    return Json(attributes.status(who.require_user()))


@router.put("/user/status")
@router.patch("/user/status")
async def set_status(
    request: Request, who: Who, db: Db, params: Annotated[SetStatus, Params(SetStatus)]
) -> Response:
    """PUT takes away what is not named, PATCH leaves it."""
    user = who.require_user()
    given = params.given()
    if request.method == "PATCH" and not given:
        return Json(None)
    if params.message is not None and len(params.message) > 100:
        raise InvalidRecord({"message": ["is too long (maximum is 100 characters)"]})
    kept = attributes.status(user) if request.method == "PATCH" else {}
    after = given.pop("clear_status_after", None)
    status = kept | {name: value for name, value in given.items() if value is not None}
    if after is not None:
        until = datetime.now(UTC) + attributes.CLEAR_AFTER[after]
        status["clear_status_at"] = until.isoformat()
    user.status = {name: value for name, value in status.items() if value is not None}
    await db.flush()
    return Json(attributes.status(user))


@router.get("/users/{id}/status")
async def read_status(who: MaybeWho, db: Db, id: UserRef) -> Response:
    """By id or name; for everybody, as in GitLab."""
    user = await find_user(db, id)
    if user is None:
        raise NotFound("User")
    return Json(attributes.status(user))


@router.get("/user/preferences")
async def read_preferences(who: Reader) -> Response:
    return Json(attributes.preferences(who.require_user()))


@router.put("/user/preferences")
async def set_preferences(
    who: Who, db: Db, params: Annotated[SetPreferences, Params(SetPreferences)]
) -> Response:
    given = {name: value for name, value in params.given().items() if value is not None}
    if not given:
        raise InvalidParams(
            f"{', '.join(attributes.PREFERENCES)} are missing, at least one parameter must be provided"
        )
    user = who.require_user()
    user.preferences = user.preferences | given
    await db.flush()
    return Json(attributes.preferences(user))


@router.get("/users/{id}/memberships")
async def list_memberships(
    who: Admin, db: Db, page: Paged, id: UserId, params: Annotated[ListMemberships, Params(ListMemberships)]
) -> Response:
    """Direct ones. Source: lib/api/entities/membership.rb."""
    user = await queries.existing_user(db, id)
    statement = (
        select(
            Member.id,
            Member.access_level,
            Member.project_id,
            Member.namespace_id,
            Project.name,
            Namespace.name,
        )
        .outerjoin(Project, Project.id == Member.project_id)
        .outerjoin(Namespace, Namespace.id == Member.namespace_id)
        .where(counts(user), Project.deleted_at.is_(None), Namespace.deleted_at.is_(None))
    )
    if params.type == "Project":
        statement = statement.where(Member.project_id.is_not(None))
    elif params.type == "Namespace":
        statement = statement.where(Member.namespace_id.is_not(None))
    total = await page.count(db, statement.with_only_columns(Member.id))
    rows = await db.execute(statement.order_by(Member.id).limit(page.per_page).offset(page.offset))
    return page.respond([_membership(*row) for row in rows.all()], total)


def _membership(
    _: int, level: int, project_id: int | None, namespace_id: int | None, project: str, namespace: str
) -> dict[str, Any]:
    return {
        "source_id": project_id if project_id is not None else namespace_id,
        "source_name": project if project_id is not None else namespace,
        "source_type": "Project" if project_id is not None else "Namespace",
        "access_level": level,
    }


@router.get("/users/{id}/associations_count")
async def count_associations(who: Who, db: Db, id: UserId) -> Response:
    """Of oneself; for administrators of anybody. There are no issues here."""
    user = await queries.existing_user(db, id)
    asking = who.require_user()
    if asking.id != user.id and not asking.is_admin:
        raise Forbidden
    of = select(func.count()).select_from(Member).where(counts(user))
    return Json(
        {
            "groups_count": await db.scalar(of.where(Member.namespace_id.is_not(None))),
            "projects_count": await db.scalar(of.where(Member.project_id.is_not(None))),
            "issues_count": 0,
            "merge_requests_count": await db.scalar(
                select(func.count()).select_from(MergeRequest).where(MergeRequest.author_id == user.id)
            ),
        }
    )


@router.get("/user/activities")
async def list_activities(
    who: Admin, db: Db, page: Paged, params: Annotated[ListActivities, Params(ListActivities)]
) -> Response:
    """Who was there since `from` (half a year ago), the longest ago first.

    Source: lib/api/entities/user_activity.rb.
    """
    since = params.since or datetime.now(UTC).date() - timedelta(days=182)
    statement = select(User).where(User.last_activity_on >= since).order_by(User.last_activity_on, User.id)
    return await page.of(db, statement, _activity)


def _activity(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "last_activity_on": day(user.last_activity_on),
        "last_activity_at": day(user.last_activity_on),
    }
