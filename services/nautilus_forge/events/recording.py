"""Writes the feed, in the transaction in which it happens.

Projects that are made and members who come and go the database itself writes (triggers of migration 0009).

Source: gitlabhq app/services/event_create_service.rb, app/services/{push,bulk_push}_event_payload_service.rb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import CommitNote, Event, MergeRequest, MergeRequestNote, Project, User
from nautilus_forge.errors import GitError
from nautilus_forge.forge import Forge
from nautilus_forge.git.command import Git
from nautilus_forge.git.refs import ref_sha
from nautilus_forge.ports import ZERO_SHA, RefChange

_MOST_COUNTED = 1000
_LONGEST_TITLE = 70
_ACTIONS = {
    "open": "created",
    "close": "closed",
    "reopen": "reopened",
    "merge": "merged",
    "approved": "approved",
}
"""By what happened to a merge request; the rest is no event."""
_NOTE_ACTIVITY = text(
    """
    UPDATE projects SET last_activity_at = now()
    WHERE id = :project AND last_activity_at < now() - interval '1 hour'
    """
)


async def record(db: AsyncSession, event: Event) -> None:
    """With the project's `last_activity_at`, which need not be exact to the hour."""
    db.add(event)
    await db.flush()
    await db.execute(_NOTE_ACTIVITY, {"project": event.project_id})


async def follow_ref(
    db: AsyncSession,
    forge: Forge,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> None:
    """Implements `ports.FollowRefChange`. A push of many branches or tags is one event, which counts them."""
    if user is None:
        return
    if change.refs_in_push > (await current_values(db)).push_event_activities_limit:
        if change.place_in_push > 1:
            return
        data = _data(change, ref_count=change.refs_in_push)
    else:
        data = await _single(forge.repositories.git(project.id), project, change)
    db.add(Event(project_id=project.id, author_id=user.id, action="pushed", push_data=data))
    await db.flush()


async def _single(git: Git, project: Project, change: RefChange) -> dict[str, Any]:
    count, title = 0, None
    if not change.is_deletion:
        count, title = await _told(git, project, change)
    return _data(
        change,
        commit_count=count,
        commit_from=None if change.is_creation else change.old_sha,
        commit_to=None if change.is_deletion else change.new_sha,
        ref=change.short_ref,
        commit_title=title,
    )


def _data(change: RefChange, **given: Any) -> dict[str, Any]:
    return {
        "commit_count": 0,
        "action": "removed" if change.is_deletion else "created" if change.is_creation else "pushed",
        "ref_type": "tag" if change.is_tag else "branch",
        "commit_from": None,
        "commit_to": None,
        "ref": None,
        "commit_title": None,
        "ref_count": None,
    } | given


async def _told(git: Git, project: Project, change: RefChange) -> tuple[int, str | None]:
    """How many commits came (of very many: about), and the title of the newest one."""
    revisions = [change.new_sha]
    if change.is_tag:
        revisions.append("--max-count=1")
    elif not change.is_creation:
        revisions.append(f"^{change.old_sha}")
    elif change.short_ref != project.default_branch:
        base = await ref_sha(git, f"refs/heads/{project.default_branch}")
        revisions += [f"^{base}"] if base != ZERO_SHA else []
    try:
        lines = await git.text("log", f"--max-count={_MOST_COUNTED}", "--format=%s", *revisions, "--")
    except GitError:  # a tag of something that is no commit
        return 0, None
    titles = lines.split("\n") if lines else []
    if not titles and not change.is_tag:
        titles_of_head = await git.text("log", "--max-count=1", "--format=%s", change.new_sha, "--")
        return 0, titles_of_head[:_LONGEST_TITLE] or None
    return len(titles), titles[0][:_LONGEST_TITLE] if titles else None


async def follow_merge_request(
    db: AsyncSession,
    forge: Forge,
    *,
    merge_request: MergeRequest,
    user: User | None,
    action: str,
    old_sha: str | None = None,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Implements `ports.MergeRequestHappened`."""
    recorded = _ACTIONS.get(action)
    if user is None or recorded is None:
        return
    await record(
        db,
        Event(
            project_id=merge_request.project_id,
            author_id=user.id,
            action=recorded,
            target="merge_request",
            target_id=merge_request.id,
        ),
    )


async def follow_note(
    db: AsyncSession,
    forge: Forge,
    *,
    merge_request: MergeRequest,
    note: MergeRequestNote,
    user: User,
    action: str = "create",
) -> None:
    """Implements `ports.MergeRequestCommented`; a new text is no event."""
    if action != "create":
        return
    await _commented(db, merge_request.project_id, user, "merge_request_note", note.id)


async def follow_commit_note(db: AsyncSession, forge: Forge, *, note: CommitNote, user: User) -> None:
    """Implements `ports.CommitCommented`."""
    await _commented(db, note.project_id, user, "commit_note", note.id)


async def _commented(db: AsyncSession, project_id: int, user: User, target: str, note_id: int) -> None:
    event = Event(
        project_id=project_id, author_id=user.id, action="commented", target=target, target_id=note_id
    )
    await record(db, event)
