"""Comments on a merge request.

Source: doc/api/notes.md, gitlabhq lib/api/notes.rb, lib/api/helpers/notes_helpers.rb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import AliasChoices
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequestNote
from nautilus_forge.errors import InvalidParams, InvalidRecord
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import notes
from nautilus_forge.merge_requests.access import MergeRequestAccess, merge_request_with
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id
from nautilus_forge.policy import Level
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Read = Annotated[MergeRequestAccess, Depends(merge_request_with())]
NoteId = Annotated[int, Depends(path_id("note_id"))]


class ListNotes(ParamModel):
    order_by: Literal["created_at", "updated_at"] = "created_at"
    sort: Literal["asc", "desc"] = "desc"
    activity_filter: Literal["all_notes", "only_comments", "only_activity"] = "all_notes"


class CreateNote(ParamModel):
    body: str = Field(max_length=notes.LONGEST_BODY)
    internal: bool = Field(default=False, validation_alias=AliasChoices("internal", "confidential"))
    created_at: datetime | None = None
    merge_request_diff_head_sha: str | None = None


class ChangeNote(ParamModel):
    body: str | None = Field(default=None, max_length=notes.LONGEST_BODY)


@router.get("/projects/{id}/merge_requests/{iid}/notes")
async def list_notes(
    at: Read, db: Db, forge: TheForge, page: Paged, params: Annotated[ListNotes, Params(ListNotes)]
) -> Response:
    statement = select(MergeRequestNote).where(MergeRequestNote.merge_request_id == at.merge_request.id)
    if params.activity_filter != "all_notes":
        is_activity = params.activity_filter == "only_activity"
        statement = statement.where(MergeRequestNote.is_system.is_(is_activity))
    if at.at.standing.level < Level.REPORTER:
        statement = statement.where(MergeRequestNote.is_internal.is_(False))
    column = getattr(MergeRequestNote, params.order_by)
    order = (column.asc(), MergeRequestNote.id.asc())
    if params.sort == "desc":
        order = (column.desc(), MergeRequestNote.id.desc())
    total = await page.count(db, statement)
    found = await db.scalars(statement.order_by(*order).limit(page.per_page).offset(page.offset))
    return page.respond(await notes.show(db, forge.settings, at.merge_request, found.all()), total)


async def _one(
    db: AsyncSession, forge: Forge, at: MergeRequestAccess, note: MergeRequestNote, status: int = 200
) -> Response:
    shown = await notes.show(db, forge.settings, at.merge_request, [note])
    return Json(shown[0], status)


@router.get("/projects/{id}/merge_requests/{iid}/notes/{note_id}")
async def read_note(at: Read, db: Db, forge: TheForge, note_id: NoteId) -> Response:
    return await _one(db, forge, at, await notes.find(db, at, note_id))


@router.post("/projects/{id}/merge_requests/{iid}/notes")
async def create_note(
    at: Read, db: Db, forge: TheForge, params: Annotated[CreateNote, Params(CreateNote)]
) -> Response:
    head = params.merge_request_diff_head_sha
    if head is not None and head != at.merge_request.sha:
        raise InvalidRecord({"base": ["Merge request diff head SHA does not match"]})
    new = notes.NewNote(params.body, is_internal=params.internal, created_at=params.created_at)
    return await _one(db, forge, at, await notes.add(db, forge, at, new), 201)


@router.put("/projects/{id}/merge_requests/{iid}/notes/{note_id}")
async def change_note(
    at: Read, db: Db, forge: TheForge, note_id: NoteId, params: Annotated[ChangeNote, Params(ChangeNote)]
) -> Response:
    note = await notes.find(db, at, note_id)
    notes.require_own(at, note)
    if params.body is not None:
        if not params.body.strip():
            raise InvalidParams("body is empty")
        await notes.reword(db, forge, at, note, params.body)
    await db.flush()
    await db.refresh(note)
    return await _one(db, forge, at, note)


@router.delete("/projects/{id}/merge_requests/{iid}/notes/{note_id}")
async def delete_note(at: Read, db: Db, note_id: NoteId) -> Response:
    note = await notes.find(db, at, note_id)
    notes.require_own(at, note)
    await db.delete(note)
    return no_content()
