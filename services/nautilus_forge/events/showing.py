"""Events as GitLab shows them, with what they are about, as far as the viewer may see that.

Source: gitlabhq lib/api/entities/{event,push_event_payload,note}.rb, app/models/event.rb (`action_name`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import (
    CommitNote,
    Event,
    MergeRequest,
    MergeRequestNote,
    Project,
    ProjectImport,
    User,
)
from nautilus_forge.errors import GitError
from nautilus_forge.forge import Forge
from nautilus_forge.git.commits import read_commit
from nautilus_forge.merge_requests import notes
from nautilus_forge.policy import Ability, Level, Standing
from nautilus_forge.projects.access import standing_of
from nautilus_forge.responses import timestamp
from nautilus_forge.users.entities import user_basic

T = TypeVar("T", MergeRequest, MergeRequestNote, CommitNote, User, Project)

_NAMES = {
    "closed": "closed",
    "merged": "accepted",
    "joined": "joined",
    "left": "left",
    "expired": "removed due to membership expiration from",
    "destroyed": "destroyed",
    "commented": "commented on",
    "approved": "approved",
}
_PUSHED = {"created": "pushed new", "removed": "deleted", "pushed": "pushed to"}


@dataclass(frozen=True)
class _Targets:
    merge_requests: Mapping[int, MergeRequest]
    notes: Mapping[int, MergeRequestNote]
    commit_notes: Mapping[int, CommitNote]
    users: Mapping[int, User]
    imported: frozenset[int]


async def show(
    db: AsyncSession, forge: Forge, who: Principal, events: Sequence[Event]
) -> list[dict[str, Any]]:
    """Without those that the viewer may not see. The events are of projects that he sees."""
    standings = await _standings(db, who, events)
    targets = await _targets(db, events)
    shown = []
    for event in events:
        standing = standings.get(event.project_id or 0)
        if standing is not None and _is_visible(event, standing, targets):
            shown.append(await _entity(db, forge, event, targets))
    return shown


async def _standings(db: AsyncSession, who: Principal, events: Sequence[Event]) -> dict[int, Standing]:
    projects = await _by_id(db, Project, (event.project_id for event in events))
    return {key: await standing_of(db, who, project) for key, project in projects.items()}


async def _by_id(db: AsyncSession, model: type[T], ids: Iterable[int | None]) -> dict[int, T]:
    wanted = {one for one in ids if one is not None}
    if not wanted:
        return {}
    return {row.id: row for row in await db.scalars(select(model).where(model.id.in_(wanted)))}


async def _targets(db: AsyncSession, events: Sequence[Event]) -> _Targets:
    def of(kind: str) -> list[int | None]:
        return [event.target_id for event in events if event.target == kind]

    on_merge_requests = await _by_id(db, MergeRequestNote, of("merge_request_note"))
    around = [note.merge_request_id for note in on_merge_requests.values()]
    made = {event.project_id for event in events if event.action == "created" and event.target is None}
    imports = select(ProjectImport.project_id).where(
        ProjectImport.project_id.in_(made), ProjectImport.kind == "git"
    )
    return _Targets(
        merge_requests=await _by_id(db, MergeRequest, [*of("merge_request"), *around]),
        notes=on_merge_requests,
        commit_notes=await _by_id(db, CommitNote, of("commit_note")),
        users=await _by_id(db, User, (event.author_id for event in events)),
        imported=frozenset(await db.scalars(imports)) if made else frozenset(),
    )


def _is_visible(event: Event, standing: Standing, targets: _Targets) -> bool:
    """Source: app/models/event.rb (`visible_to_user?`)."""
    if event.action == "pushed" or event.target == "commit_note":
        return standing.can(Ability.READ_CODE)
    if event.target == "merge_request_note":
        note = targets.notes.get(event.target_id or 0)
        if note is not None and note.is_internal and standing.level < Level.REPORTER:
            return False
    if event.target in ("merge_request", "merge_request_note"):
        return standing.can(Ability.READ_MERGE_REQUEST)
    return standing.can(Ability.READ_PROJECT)


async def _entity(db: AsyncSession, forge: Forge, event: Event, targets: _Targets) -> dict[str, Any]:
    author = targets.users.get(event.author_id)
    entity: dict[str, Any] = {
        "id": event.id,
        "project_id": event.project_id,
        "action_name": _action_name(event, targets),
        "target_id": event.target_id,
        "target_iid": event.target_id,
        "target_type": None,
        "author_id": event.author_id,
        "target_title": None,
        "created_at": timestamp(event.created_at),
        "imported": False,
        "imported_from": "none",
        "author_username": author.username if author is not None else None,
    }
    if author is not None:
        entity["author"] = user_basic(forge.settings, author)
    if event.push_data is not None:
        entity["push_data"] = event.push_data
    return entity | await _about(db, forge, event, targets)


def _action_name(event: Event, targets: _Targets) -> str:
    if event.push_data is not None:
        return _PUSHED[event.push_data["action"]]
    if event.action == "created" and event.target is None:
        return "imported" if event.project_id in targets.imported else "created"
    return _NAMES.get(event.action, "opened")


async def _about(db: AsyncSession, forge: Forge, event: Event, targets: _Targets) -> dict[str, Any]:
    """What the event's target says of itself; little where it is gone."""
    target_id = event.target_id or 0
    if event.target == "merge_request":
        found = targets.merge_requests.get(target_id)
        about = {"target_iid": found.iid, "target_title": found.title} if found is not None else {}
        return {"target_type": "MergeRequest", **about}
    if event.target == "merge_request_note":
        note = targets.notes.get(target_id)
        if note is None:
            return {"target_type": "Note"}
        merge_request = targets.merge_requests[note.merge_request_id]
        shown = (await notes.show(db, forge.settings, merge_request, [note]))[0]
        return {"target_type": note.type or "Note", "target_title": merge_request.title, "note": shown}
    if event.target == "commit_note":
        of_commit = targets.commit_notes.get(target_id)
        if of_commit is None:
            return {"target_type": "Note"}
        return {
            "target_type": "DiffNote" if of_commit.path else "Note",
            "target_title": await _commit_title(forge, of_commit),
            "note": _commit_note(forge, of_commit, targets.users.get(event.author_id)),
        }
    return {}


async def _commit_title(forge: Forge, note: CommitNote) -> str | None:
    try:
        return (await read_commit(forge.repositories.git(note.project_id), note.commit_sha)).title
    except (GitError, IndexError):
        return None


def _commit_note(forge: Forge, note: CommitNote, author: User | None) -> dict[str, Any]:
    return {
        "id": note.id,
        "type": "DiffNote" if note.path else None,
        "body": note.note,
        "attachment": None,
        "author": user_basic(forge.settings, author) if author is not None else None,
        "created_at": timestamp(note.created_at),
        "updated_at": timestamp(note.created_at),
        "system": False,
        "noteable_id": None,
        "noteable_type": "Commit",
        "project_id": note.project_id,
        "commit_id": note.commit_sha,
        "resolvable": False,
        "confidential": False,
        "internal": False,
        "imported": False,
        "imported_from": "none",
        "noteable_iid": None,
        "commands_changes": {},
    }
