"""Comments on merge requests and commits.

Source: gitlabhq lib/gitlab/data_builder/note.rb, lib/gitlab/hook_data/note_builder.rb.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import CommitNote, MergeRequest, MergeRequestNote, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests.entities import web_url
from nautilus_forge.webhooks.payloads import merge_requests, parts


async def of_merge_request(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    merge_request: MergeRequest,
    note: MergeRequestNote,
    user: User | None,
    action: str = "create",
) -> dict[str, Any]:
    attributes = _attributes(
        project, note.id, note.author_id, note.body, note.created_at, note.updated_at
    ) | {
        "discussion_id": note.discussion_id,
        "internal": note.is_internal,
        "noteable_id": merge_request.id,
        "noteable_type": "MergeRequest",
        "position": note.position,
        "original_position": note.position,
        "resolved_at": parts.moment(note.resolved_at),
        "resolved_by_id": note.resolved_by_id,
        "system": note.is_system,
        "type": note.type,
        "url": f"{web_url(forge.settings, project, merge_request.iid)}#note_{note.id}",
        "action": action,
    }
    payload = _around(forge, project, user, attributes, is_confidential=note.is_internal)
    payload["merge_request"] = await merge_requests.object_attributes(db, forge, project, merge_request)
    return payload


async def of_commit(
    forge: Forge, project: Project, note: CommitNote, user: User | None, action: str = "create"
) -> dict[str, Any]:
    url = parts.commit_url(forge.settings, project, note.commit_sha)
    attributes = _attributes(
        project, note.id, note.author_id, note.note, note.created_at, note.created_at
    ) | {
        "commit_id": note.commit_sha,
        "noteable_type": "Commit",
        "url": f"{url}#note_{note.id}",
        "action": action,
    }
    payload = _around(forge, project, user, attributes, is_confidential=False)
    commit = await parts.find_commit(forge.repositories.git(project.id), note.commit_sha)
    payload["commit"] = parts.commit(forge.settings, project, commit) if commit is not None else None
    return payload


def _attributes(
    project: Project, note_id: int, author_id: int | None, body: str, created_at: Any, updated_at: Any
) -> dict[str, Any]:
    """What all comments have; the defaults of what only some have."""
    return {
        "attachment": None,
        "author_id": author_id,
        "change_position": None,
        "commit_id": None,
        "created_at": parts.moment(created_at),
        "description": body,
        "discussion_id": None,
        "id": note_id,
        "internal": False,
        "line_code": None,
        "note": body,
        "noteable_id": None,
        "original_position": None,
        "position": None,
        "project_id": project.id,
        "resolved_at": None,
        "resolved_by_id": None,
        "resolved_by_push": None,
        "st_diff": None,
        "system": False,
        "type": None,
        "updated_at": parts.moment(updated_at),
        "updated_by_id": None,
    }


def _around(
    forge: Forge, project: Project, user: User | None, attributes: dict[str, Any], *, is_confidential: bool
) -> dict[str, Any]:
    return {
        "object_kind": "note",
        "event_type": "confidential_note" if is_confidential else "note",
        "user": parts.user(user),
        "project_id": project.id,
        "project": parts.project(forge.settings, project),
        "object_attributes": attributes,
        "repository": parts.repository(forge.settings, project),
    }
