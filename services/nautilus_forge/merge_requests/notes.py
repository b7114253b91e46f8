"""Comments on merge requests, and the threads that they make.

Source: gitlabhq app/models/{note,discussion}.rb, app/services/notes/*.rb, lib/api/entities/{note,discussion}.rb.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, MergeRequestNote, User
from nautilus_forge.errors import Forbidden, InvalidRecord, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import people
from nautilus_forge.merge_requests.access import MergeRequestAccess
from nautilus_forge.policy import Ability, Level
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic

LONGEST_BODY = 1_000_000
INDIVIDUAL, THREAD, IN_DIFF = None, "DiscussionNote", "DiffNote"


@dataclass(frozen=True)
class NewNote:
    """`discussion_id` None: it begins a discussion of its own. `created_at`: for who may set it."""

    body: str
    type: str | None = INDIVIDUAL
    discussion_id: str | None = None
    position: dict[str, Any] | None = None
    is_internal: bool = False
    created_at: datetime | None = None


async def add(db: AsyncSession, forge: Forge, at: MergeRequestAccess, new: NewNote) -> MergeRequestNote:
    """Raises `InvalidRecord` (no text), `Forbidden` (locked for who is no member, internal for whom it is not)."""
    user = at.who.require_user()
    if not new.body.strip():
        raise InvalidRecord({"note": ["can't be blank"]})
    if at.project.is_archived or not may_comment(at):
        raise Forbidden
    if new.is_internal and at.at.standing.level < Level.REPORTER:
        raise Forbidden
    may_date = at.at.standing.level >= Level.OWNER
    note = MergeRequestNote(
        merge_request_id=at.merge_request.id,
        discussion_id=new.discussion_id or secrets.token_hex(20),
        type=new.type,
        author_id=user.id,
        body=new.body,
        is_internal=new.is_internal,
        position=new.position,
        is_resolvable=new.type is not INDIVIDUAL,
    )
    if may_date and new.created_at is not None:
        note.created_at = note.updated_at = new.created_at
    at.merge_request.updated_at = datetime.now(UTC)
    db.add(note)
    await db.flush()
    await db.refresh(note)
    for commented in forge.on_merge_request_note:
        await commented(db, forge, merge_request=at.merge_request, note=note, user=user)
    return note


async def reword(
    db: AsyncSession, forge: Forge, at: MergeRequestAccess, note: MergeRequestNote, body: str
) -> None:
    """Another text, by who may change it (`require_own`)."""
    if note.body == body:
        return
    note.body = body
    await db.flush()
    await db.refresh(note)
    for commented in forge.on_merge_request_note:
        await commented(
            db,
            forge,
            merge_request=at.merge_request,
            note=note,
            user=at.who.require_user(),
            action="update",
        )


def may_comment(at: MergeRequestAccess) -> bool:
    """Whoever reads it; while its discussion is locked, members alone."""
    return not at.merge_request.discussion_locked or at.at.standing.level >= Level.REPORTER


def visible(at: MergeRequestAccess, notes: Sequence[MergeRequestNote]) -> list[MergeRequestNote]:
    """Without the internal ones, for who is no reporter."""
    sees_all = at.at.standing.level >= Level.REPORTER
    return [note for note in notes if sees_all or not note.is_internal]


async def find(db: AsyncSession, at: MergeRequestAccess, note_id: int) -> MergeRequestNote:
    """Raises `NotFound`."""
    note = await db.get(MergeRequestNote, note_id)
    if note is None or note.merge_request_id != at.merge_request.id or not visible(at, [note]):
        raise NotFound("Note")
    return note


def require_own(at: MergeRequestAccess, note: MergeRequestNote) -> None:
    """Its author, or who looks after the project. Raises `Forbidden`."""
    user = at.who.require_user()
    if (
        at.project.is_archived
        or note.is_system
        or (note.author_id != user.id and not at.at.can(Ability.ADMIN_NOTE))
    ):
        raise Forbidden


async def of_discussion(
    db: AsyncSession, at: MergeRequestAccess, discussion_id: str
) -> list[MergeRequestNote]:
    """Oldest first. Raises `NotFound`."""
    statement = select(MergeRequestNote).where(
        MergeRequestNote.merge_request_id == at.merge_request.id,
        MergeRequestNote.discussion_id == discussion_id,
    )
    found = visible(at, (await db.scalars(statement.order_by(MergeRequestNote.id))).all())
    if not found:
        raise NotFound("Discussion")
    return found


def require_resolve(at: MergeRequestAccess) -> None:
    """Its author and developers resolve threads. Raises `Forbidden`."""
    user = at.who.require_user()
    if user.id != at.merge_request.author_id:
        at.at.require(Ability.UPDATE_MERGE_REQUEST)


def resolve(note: MergeRequestNote, user: User, *, is_resolved: bool) -> None:
    """Does nothing where it is so already, or where there is nothing to resolve."""
    if not note.is_resolvable or (note.resolved_at is not None) == is_resolved:
        return
    note.resolved_at = datetime.now(UTC) if is_resolved else None
    note.resolved_by_id = user.id if is_resolved else None


async def show(
    db: AsyncSession, settings: Settings, merge_request: MergeRequest, notes: Sequence[MergeRequestNote]
) -> list[dict[str, Any]]:
    ids = {note.author_id for note in notes} | {note.resolved_by_id for note in notes}
    users = await people.users_by_id(db, (user_id for user_id in ids if user_id is not None))
    return [_entity(settings, merge_request, note, users) for note in notes]


def _entity(
    settings: Settings, merge_request: MergeRequest, note: MergeRequestNote, users: dict[int, User]
) -> dict[str, Any]:
    author = users.get(note.author_id or 0)
    entity = {
        "id": note.id,
        "type": note.type,
        "body": note.body,
        "attachment": None,
        "author": user_basic(settings, author) if author is not None else None,
        "created_at": timestamp(note.created_at),
        "updated_at": timestamp(note.updated_at),
        "system": note.is_system,
        "noteable_id": merge_request.id,
        "noteable_type": "MergeRequest",
        "project_id": merge_request.project_id,
        "resolvable": note.is_resolvable,
        "confidential": note.is_internal,
        "internal": note.is_internal,
        "imported": False,
        "imported_from": "none",
        "noteable_iid": merge_request.iid,
        "commands_changes": {},
    }
    if note.type == IN_DIFF:
        entity |= {"commit_id": None, "position": note.position}
    if note.is_resolvable:
        resolver = users.get(note.resolved_by_id or 0)
        entity |= {
            "resolved": note.resolved_at is not None,
            "resolved_by": user_basic(settings, resolver) if resolver is not None else None,
            "resolved_at": timestamp(note.resolved_at),
        }
    return entity
