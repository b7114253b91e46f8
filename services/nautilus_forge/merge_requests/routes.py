"""Merge requests: list, make, read, change, delete; who takes part.

Source: doc/api/merge_requests.md, gitlabhq lib/api/merge_requests.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import MaybeWho
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequest, Project
from nautilus_forge.errors import InvalidParams, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import revisions
from nautilus_forge.groups.access import GroupAccess, group_with
from nautilus_forge.merge_requests import entities, following, people, queries, service, versions
from nautilus_forge.merge_requests.access import MergeRequestAccess, Readable, merge_request_with
from nautilus_forge.merge_requests.params import (
    AT_LEAST_ONE_OF,
    ChangeMergeRequest,
    CreateMergeRequest,
    ListMergeRequests,
    ReadMergeRequest,
)
from nautilus_forge.merge_requests.show import show_list, show_one
from nautilus_forge.pagination import Page, Paged
from nautilus_forge.params import Params, merged, path_text
from nautilus_forge.policy import Ability, GroupAbility
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content
from nautilus_forge.users.entities import user_basic

router = APIRouter()

Listing = Annotated[ListMergeRequests, Params(ListMergeRequests)]
Creatable = Annotated[ProjectAccess, Depends(project_with(Ability.CREATE_MERGE_REQUEST))]
Read = Annotated[MergeRequestAccess, Depends(merge_request_with())]
Change = Annotated[
    MergeRequestAccess,
    Depends(merge_request_with(Ability.UPDATE_MERGE_REQUEST, by_author=True, lock=True)),
]
Destroy = Annotated[MergeRequestAccess, Depends(merge_request_with(Ability.DESTROY_MERGE_REQUEST, lock=True))]
InGroup = Annotated[GroupAccess, Depends(group_with(GroupAbility.READ_GROUP))]
OfCommit = Annotated[ProjectAccess, Depends(project_with(Ability.READ_CODE))]
Sha = Annotated[str, Depends(path_text("sha"))]


async def _respond(
    db: AsyncSession, forge: Forge, page: Page, statement: Select[MergeRequest], params: ListMergeRequests
) -> Response:
    total = await page.count(db, statement)
    cut = queries.ordered(statement, params).limit(page.per_page).offset(page.offset)
    return page.respond(await show_list(db, forge, (await db.scalars(cut)).all(), params), total)


@router.get("/merge_requests")
async def list_all(who: MaybeWho, db: Db, forge: TheForge, page: Paged, params: Listing) -> Response:
    """One's own by default; `scope=all`: all that one may read, for nobody in particular too."""
    if params.scope != "all":
        who.require_user()
    params = params if params.scope is not None else params.model_copy(update={"scope": "created_by_me"})
    statement = queries.filtered(queries.visible_to(who.user), params, who.user)
    if params.non_archived:
        statement = statement.where(Project.is_archived.is_(False))
    return await _respond(db, forge, page, statement, params)


@router.get("/groups/{id}/merge_requests")
async def list_of_group(at: InGroup, db: Db, forge: TheForge, page: Paged, params: Listing) -> Response:
    """Those of all projects in the group and below it."""
    statement = queries.filtered(queries.visible_to(at.user), params, at.user)
    statement = statement.where(Project.namespace_id.in_(queries.at_and_below(at.group.id)))
    if params.non_archived:
        statement = statement.where(Project.is_archived.is_(False))
    return await _respond(db, forge, page, statement, params)


@router.get("/projects/{id}/merge_requests")
async def list_of_project(at: Readable, db: Db, forge: TheForge, page: Paged, params: Listing) -> Response:
    statement = queries.filtered(queries.of_project(at.project.id), params, at.user)
    return await _respond(db, forge, page, statement, params)


@router.get("/projects/{id}/repository/commits/{sha}/merge_requests")
async def list_of_commit(at: OfCommit, db: Db, forge: TheForge, page: Paged, sha: Sha) -> Response:
    """Those that brought the commit, or would bring it, and the one that it is the merge of."""
    full = await revisions.commit_sha(forge.repositories.git(at.project.id), sha)
    if full is None:
        raise NotFound("Commit")
    if not at.can(Ability.READ_MERGE_REQUEST):
        return page.respond([], 0)
    iids = await versions.bringing(db, forge, at.project.id, full)
    statement = queries.of_project(at.project.id).where(queries.has_commit(full, iids))
    return await _respond(db, forge, page, statement, ListMergeRequests())


@router.post("/projects/{id}/merge_requests")
async def create(
    at: Creatable, db: Db, forge: TheForge, params: Annotated[CreateMergeRequest, Params(CreateMergeRequest)]
) -> Response:
    """201. `id` is the project of the source branch, `target_project_id` the one that is asked (default: the same)."""
    new = service.NewMergeRequest(
        source=at.project,
        source_branch=params.source_branch,
        target_branch=params.target_branch,
        title=params.title,
        attributes=params,
        target_project_id=params.target_project_id,
    )
    made = await service.create(db, forge, at.who, new)
    following.catch_up_later(db, forge, made)
    return Json(await show_one(db, forge, at.who, made), 201)


@router.get("/projects/{id}/merge_requests/{iid}")
async def read(
    at: Read, db: Db, forge: TheForge, params: Annotated[ReadMergeRequest, Params(ReadMergeRequest)]
) -> Response:
    return Json(await show_one(db, forge, at.who, at.merge_request, params))


@router.put("/projects/{id}/merge_requests/{iid}")
async def change(
    request: Request,
    at: Change,
    db: Db,
    forge: TheForge,
    params: Annotated[ChangeMergeRequest, Params(ChangeMergeRequest)],
) -> Response:
    given: dict[str, Any] = await merged(request)
    if not any(name in given for name in AT_LEAST_ONE_OF):
        raise InvalidParams(
            f"{', '.join(AT_LEAST_ONE_OF)} are missing, at least one parameter must be provided"
        )
    await service.change(db, forge, at.who.require_user(), at.merge_request, params)
    following.catch_up_later(db, forge, at.merge_request)
    return Json(await show_one(db, forge, at.who, at.merge_request))


@router.delete("/projects/{id}/merge_requests/{iid}")
async def delete(at: Destroy, db: Db, forge: TheForge) -> Response:
    """For owners of the project."""
    await service.remove(db, forge, at.merge_request)
    return no_content()


@router.get("/projects/{id}/merge_requests/{iid}/participants")
async def list_participants(at: Read, db: Db, forge: TheForge, page: Paged) -> Response:
    found = await people.participants(db, at.merge_request)
    return page.cut(found, lambda user: user_basic(forge.settings, user))


@router.get("/projects/{id}/merge_requests/{iid}/reviewers")
async def list_reviewers(at: Read, db: Db, forge: TheForge) -> Response:
    cast = await people.cast(db, at.merge_request)
    rows = [row for row in cast.rows if row.role == people.REVIEWER and row.user_id in cast.users]
    return Json([entities.reviewer(forge.settings, row, cast.users[row.user_id]) for row in rows])


@router.get("/projects/{id}/merge_requests/{iid}/closes_issues")
async def list_closed_issues(at: Read, page: Paged) -> Response:
    """There are no issues here."""
    return page.respond([], 0)


@router.get("/projects/{id}/merge_requests/{iid}/related_issues")
async def list_related_issues(at: Read, page: Paged) -> Response:
    return page.respond([], 0)
