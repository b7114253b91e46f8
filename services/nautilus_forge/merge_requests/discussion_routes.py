"""Threads of comments on a merge request, which can be resolved.

Source: doc/api/discussions.md ("Merge requests"), gitlabhq lib/api/discussions.rb, lib/api/resolvable_discussions.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequestNote
from nautilus_forge.errors import BadRequest, InvalidParams, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import notes
from nautilus_forge.merge_requests.access import MergeRequestAccess, merge_request_with
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_id, path_text
from nautilus_forge.policy import Level
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Read = Annotated[MergeRequestAccess, Depends(merge_request_with())]
DiscussionId = Annotated[str, Depends(path_text("discussion_id"))]
NoteId = Annotated[int, Depends(path_id("note_id"))]


class Position(ParamModel):
    """Where in the diff. A line is named by `new_line`, `old_line`, or both; a file by `position_type` file."""

    base_sha: str
    start_sha: str
    head_sha: str
    position_type: str = Field(pattern=r"^(text|image|file)$")
    new_path: str | None = None
    old_path: str | None = None
    new_line: int | None = None
    old_line: int | None = None
    line_range: dict[str, Any] | None = None
    width: int | None = None
    height: int | None = None
    x: int | None = None
    y: int | None = None


class CreateDiscussion(ParamModel):
    body: str = Field(max_length=notes.LONGEST_BODY)
    created_at: datetime | None = None
    commit_id: str | None = None
    position: Position | None = None


class AddNote(ParamModel):
    body: str = Field(max_length=notes.LONGEST_BODY)
    created_at: datetime | None = None


class ChangeNote(ParamModel):
    body: str | None = Field(default=None, max_length=notes.LONGEST_BODY)
    resolved: bool | None = None


class Resolve(ParamModel):
    resolved: bool


def _discussion(shown: Sequence[dict[str, Any]], first: MergeRequestNote) -> dict[str, Any]:
    is_individual = first.type is notes.INDIVIDUAL
    return {"id": first.discussion_id, "individual_note": is_individual, "notes": list(shown)}


async def _one(
    db: AsyncSession, forge: Forge, at: MergeRequestAccess, discussion_id: str, status: int = 200
) -> Response:
    found = await notes.of_discussion(db, at, discussion_id)
    shown = await notes.show(db, forge.settings, at.merge_request, found)
    return Json(_discussion(shown, found[0]), status)


@router.get("/projects/{id}/merge_requests/{iid}/discussions")
async def list_discussions(at: Read, db: Db, forge: TheForge, page: Paged) -> Response:
    """Oldest first; a comment that nobody answered is a discussion of its own."""
    statement = (
        select(MergeRequestNote.discussion_id)
        .where(MergeRequestNote.merge_request_id == at.merge_request.id)
        .group_by(MergeRequestNote.discussion_id)
        .order_by(func.min(MergeRequestNote.id))
    )
    if at.at.standing.level < Level.REPORTER:
        statement = statement.where(MergeRequestNote.is_internal.is_(False))
    total = await page.count(db, statement)
    ids = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    rows = await db.scalars(
        select(MergeRequestNote)
        .where(
            MergeRequestNote.merge_request_id == at.merge_request.id, MergeRequestNote.discussion_id.in_(ids)
        )
        .order_by(MergeRequestNote.id)
    )
    found = notes.visible(at, rows.all())
    entities = await notes.show(db, forge.settings, at.merge_request, found)
    threads: dict[str, list[int]] = {}
    for index, note in enumerate(found):
        threads.setdefault(note.discussion_id, []).append(index)
    shown = [
        _discussion([entities[index] for index in threads[name]], found[threads[name][0]])
        for name in ids
        if name in threads
    ]
    return page.respond(shown, total)


@router.get("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}")
async def read_discussion(at: Read, db: Db, forge: TheForge, discussion_id: DiscussionId) -> Response:
    return await _one(db, forge, at, discussion_id)


@router.post("/projects/{id}/merge_requests/{iid}/discussions")
async def create_discussion(
    at: Read, db: Db, forge: TheForge, params: Annotated[CreateDiscussion, Params(CreateDiscussion)]
) -> Response:
    """A thread; with a `position` one about a line of the diff."""
    position = _checked(params.position) if params.position is not None else None
    kind = notes.IN_DIFF if position is not None else notes.THREAD
    new = notes.NewNote(params.body, type=kind, position=position, created_at=params.created_at)
    made = await notes.add(db, forge, at, new)
    return await _one(db, forge, at, made.discussion_id, 201)


def _checked(position: Position) -> dict[str, Any]:
    """Raises `BadRequest` for one that names no place. Source: `DiffNote`'s validations."""
    is_line = position.position_type == "text"
    has_path = position.new_path or position.old_path
    if not has_path or (is_line and position.new_line is None and position.old_line is None):
        raise BadRequest('(Note {:line_code=>["can\'t be blank", "must be a valid line code"]})')
    return position.model_dump(exclude_none=not is_line)


@router.put("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}")
async def resolve_discussion(
    at: Read,
    db: Db,
    forge: TheForge,
    discussion_id: DiscussionId,
    params: Annotated[Resolve, Params(Resolve)],
) -> Response:
    found = await notes.of_discussion(db, at, discussion_id)
    notes.require_resolve(at)
    for note in found:
        notes.resolve(note, at.who.require_user(), is_resolved=params.resolved)
    await db.flush()
    return await _one(db, forge, at, discussion_id)


@router.get("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}/notes")
async def list_notes(at: Read, db: Db, forge: TheForge, discussion_id: DiscussionId) -> Response:
    found = await notes.of_discussion(db, at, discussion_id)
    return Json(await notes.show(db, forge.settings, at.merge_request, found))


@router.post("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}/notes")
async def add_note(
    at: Read,
    db: Db,
    forge: TheForge,
    discussion_id: DiscussionId,
    params: Annotated[AddNote, Params(AddNote)],
) -> Response:
    """An answer. It makes a thread of a comment that stood alone."""
    found = await notes.of_discussion(db, at, discussion_id)
    first = found[0]
    if first.type is notes.INDIVIDUAL:
        first.type, first.is_resolvable = notes.THREAD, True
    new = notes.NewNote(
        params.body,
        type=first.type,
        discussion_id=discussion_id,
        position=first.position,
        is_internal=first.is_internal,
        created_at=params.created_at,
    )
    made = await notes.add(db, forge, at, new)
    return Json((await notes.show(db, forge.settings, at.merge_request, [made]))[0], 201)


@router.get("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}/notes/{note_id}")
async def read_note(
    at: Read, db: Db, forge: TheForge, discussion_id: DiscussionId, note_id: NoteId
) -> Response:
    note = await _note(db, at, discussion_id, note_id)
    return Json((await notes.show(db, forge.settings, at.merge_request, [note]))[0])


async def _note(
    db: AsyncSession, at: MergeRequestAccess, discussion_id: str, note_id: int
) -> MergeRequestNote:
    note = await notes.find(db, at, note_id)
    if note.discussion_id != discussion_id:
        raise NotFound("Note")
    return note


@router.put("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}/notes/{note_id}")
async def change_note(
    at: Read,
    db: Db,
    forge: TheForge,
    discussion_id: DiscussionId,
    note_id: NoteId,
    params: Annotated[ChangeNote, Params(ChangeNote)],
) -> Response:
    """Its text, or whether it is resolved: one of the two."""
    note = await _note(db, at, discussion_id, note_id)
    if (params.body is None) == (params.resolved is None):
        raise InvalidParams("body, resolved are missing, exactly one parameter must be provided")
    if params.resolved is not None:
        notes.require_resolve(at)
        notes.resolve(note, at.who.require_user(), is_resolved=params.resolved)
    else:
        notes.require_own(at, note)
        await notes.reword(db, forge, at, note, params.body or "")
    await db.flush()
    await db.refresh(note)
    return Json((await notes.show(db, forge.settings, at.merge_request, [note]))[0])


@router.delete("/projects/{id}/merge_requests/{iid}/discussions/{discussion_id}/notes/{note_id}")
async def delete_note(at: Read, db: Db, discussion_id: DiscussionId, note_id: NoteId) -> Response:
    note = await _note(db, at, discussion_id, note_id)
    notes.require_own(at, note)
    await db.delete(note)
    return no_content()
