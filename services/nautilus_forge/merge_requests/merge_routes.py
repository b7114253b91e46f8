"""Merging: now, later, or not any more; what a merge would give; approvals; pipelines.

Source: doc/api/merge_requests.md, doc/api/merge_request_approvals.md, gitlabhq lib/api/merge_requests.rb,
lib/api/merge_request_approvals.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequestPerson, Project
from nautilus_forge.errors import (
    BadRequest,
    Conflict,
    NotAcceptable,
    NotAllowed,
    NotFound,
    Unauthorized,
    Unprocessable,
)
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.writing import Person
from nautilus_forge.merge_requests import accepting, entities, mergeability, people, pipelines, refs
from nautilus_forge.merge_requests.access import MergeRequestAccess, is_authors, merge_request_with
from nautilus_forge.merge_requests.params import Accept
from nautilus_forge.merge_requests.show import show_one
from nautilus_forge.merge_requests.telling import tell
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params
from nautilus_forge.policy import Ability, Level
from nautilus_forge.projects.access import access_to
from nautilus_forge.responses import Json

router = APIRouter()

Read = Annotated[MergeRequestAccess, Depends(merge_request_with())]
Approve = Annotated[MergeRequestAccess, Depends(merge_request_with(Ability.UPDATE_MERGE_REQUEST, lock=True))]
Locked = Annotated[MergeRequestAccess, Depends(merge_request_with(lock=True))]


class ApproveParams(ParamModel):
    sha: str | None = None


@router.put("/projects/{id}/merge_requests/{iid}/merge")
async def merge(at: Read, db: Db, forge: TheForge, params: Annotated[Accept, Params(Accept)]) -> Response:
    """200; 401 may not, 405 cannot be merged as it is, 409 another head than `sha`, 422 conflicts."""
    user = at.who.require_user()
    merged = await accepting.accept(db, forge, user, at.merge_request, params)
    if merged.state != "merged" and merged.auto_merge is None:
        raise Unprocessable(accepting.CANNOT_BE_MERGED)
    return Json(await show_one(db, forge, at.who, merged))


@router.post("/projects/{id}/merge_requests/{iid}/cancel_merge_when_pipeline_succeeds")
async def cancel_merge(at: Locked, db: Db, forge: TheForge) -> Response:
    """201; for its author and whoever may merge it. 406 where nothing was asked for."""
    user = at.who.require_user()
    may = await mergeability.can_be_merged_by(db, user, at.merge_request)
    if not may and not await is_authors(db, at.merge_request, user):
        raise Unauthorized
    if at.merge_request.auto_merge is None:
        raise NotAcceptable("Can't cancel the automatic merge")
    await accepting.cancel_automatic(db, at.merge_request)
    return Json(await show_one(db, forge, at.who, at.merge_request), 201)


@router.get("/projects/{id}/merge_requests/{iid}/merge_ref")
async def read_merge_ref(at: Read, db: Db, forge: TheForge) -> Response:
    """`refs/merge-requests/<iid>/merge`, set to what a merge of the two heads as they are now would give."""
    source = await refs.source_head(forge, at.merge_request)
    target = await refs.target_head(forge, at.merge_request)
    if (
        at.merge_request.state != "opened"
        or source is None
        or target is None
        or source != at.merge_request.sha
    ):
        raise BadRequest(message="Merge request is not mergeable")
    git = forge.repositories.git(at.project.id)
    tree = await merging.merge_tree(git, target, source)
    if tree is None:
        raise BadRequest(message="Merge request is not mergeable")
    message = f"Merge {source} into {target}"
    sha = await merging.write_merge(
        git, tree, (target, source), message, Person("GitLab", "gitlab@localhost")
    )
    await merging.set_refs(git, {refs.merge_ref(at.merge_request): sha})
    return Json({"commit_id": sha})


@router.get("/projects/{id}/merge_requests/{iid}/approvals")
async def read_approvals(at: Read, db: Db, forge: TheForge) -> Response:
    return await _approvals(db, forge, at)


async def _approvals(db: AsyncSession, forge: Forge, at: MergeRequestAccess, status: int = 200) -> Response:
    cast = await people.cast(db, at.merge_request)
    can = at.at.can(Ability.UPDATE_MERGE_REQUEST)
    shown = entities.approvals(forge.settings, at.project, at.merge_request, cast, at.user, can=can)
    return Json(shown, status)


@router.post("/projects/{id}/merge_requests/{iid}/approve")
async def approve(
    at: Approve, db: Db, forge: TheForge, params: Annotated[ApproveParams, Params(ApproveParams)]
) -> Response:
    """201; 401 for who has approved already, 409 where the head is not `sha`."""
    merge_request, user = at.merge_request, at.who.require_user()
    if params.sha is not None and params.sha != merge_request.sha:
        raise Conflict(f"SHA does not match HEAD of source branch: {merge_request.sha}")
    cast = await people.cast(db, merge_request)
    if cast.has(people.APPROVER, user) or merge_request.state == "merged":
        raise Unauthorized
    db.add(MergeRequestPerson(merge_request_id=merge_request.id, role=people.APPROVER, user_id=user.id))
    for row in cast.rows:
        if row.role == people.REVIEWER and row.user_id == user.id:
            row.state = "approved"
    await db.flush()
    await tell(db, forge, merge_request, user, "approved")
    return await _approvals(db, forge, at, 201)


@router.post("/projects/{id}/merge_requests/{iid}/unapprove")
async def unapprove(at: Approve, db: Db, forge: TheForge) -> Response:
    """201; 404 for who has not approved."""
    merge_request, user = at.merge_request, at.who.require_user()
    cast = await people.cast(db, merge_request)
    if not cast.has(people.APPROVER, user) or merge_request.state == "merged":
        raise NotFound
    for row in cast.rows:
        if row.user_id == user.id and row.role == people.APPROVER:
            await db.delete(row)
        elif row.user_id == user.id and row.role == people.REVIEWER:
            row.state = "unapproved"
    await db.flush()
    await tell(db, forge, merge_request, user, "unapproved")
    return await _approvals(db, forge, at, 201)


@router.put("/projects/{id}/merge_requests/{iid}/reset_approvals")
async def reset_approvals(at: Locked, db: Db) -> Response:
    """202; for bots of the project or the group, as in GitLab."""
    user = at.who.require_user()
    if not user.is_bot or at.at.standing.level < Level.DEVELOPER or at.merge_request.state == "merged":
        raise Unauthorized
    await db.execute(
        delete(MergeRequestPerson).where(
            MergeRequestPerson.merge_request_id == at.merge_request.id,
            MergeRequestPerson.role == people.APPROVER,
        )
    )
    return Json(None, 202)


@router.get("/projects/{id}/merge_requests/{iid}/pipelines")
async def list_pipelines(at: Read, db: Db, forge: TheForge, page: Paged) -> Response:
    """The merge request's own and the source branch's, of all of its versions; its own first."""
    at.at.require(Ability.READ_PIPELINE)
    ids = await pipelines.of(db, at.who, at.merge_request)
    shown = await forge.show_pipelines(db, ids[page.offset : page.offset + page.per_page])
    return page.respond(list(shown.values()), len(ids))


@router.post("/projects/{id}/merge_requests/{iid}/pipelines")
async def create_pipeline(at: Read, db: Db, forge: TheForge) -> Response:
    """200 with a pipeline of the head, for who may make pipelines in the source project; 405 without commits."""
    merge_request = at.merge_request
    source = await db.get(Project, merge_request.source_project_id or 0)
    if merge_request.state != "opened" or source is None or merge_request.sha is None:
        raise NotAllowed
    await access_to(db, at.who, str(source.id), Ability.CREATE_PIPELINE)
    made = await forge.create_for_merge_request(
        db, forge, merge_request=merge_request, user=at.who.require_user(), is_asked=True
    )
    if made is None:
        raise NotAllowed
    shown = await forge.show_pipelines(db, [made], detailed=True)
    return Json(shown[made])
