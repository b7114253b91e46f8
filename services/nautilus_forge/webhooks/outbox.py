"""Remembers what hooks want to hear of, in the transaction in which it happens.

What happens to jobs, pipelines, deployments, projects, groups, users, members and keys the database itself remembers
(triggers of migration 0009); here is the rest. Nothing is written where no hook wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import CommitNote, MergeRequest, MergeRequestNote, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import people
from nautilus_forge.ports import RefChange
from nautilus_forge.webhooks.payloads.merge_requests import snapshot
from nautilus_forge.webhooks.triggers import PROJECT_TRIGGERS, SYSTEM_TRIGGERS

_TELL = text("SELECT tell_webhooks(:project, :wanted, :trigger, CAST(:facts AS jsonb))")
_IS_WANTED = text(
    """
    SELECT EXISTS (SELECT FROM web_hooks
                   WHERE (project_id = :project OR project_id IS NULL) AND CAST(:wanted AS text) = ANY(events))
    """
)


async def remember(db: AsyncSession, project_id: int, flag: str, facts: Mapping[str, Any]) -> None:
    """`flag`: that of the hooks which want it; `facts`: what `building` makes the payload of."""
    trigger = (PROJECT_TRIGGERS | SYSTEM_TRIGGERS)[flag]
    told = {"project": project_id, "wanted": flag, "trigger": trigger, "facts": orjson.dumps(facts).decode()}
    await db.execute(_TELL, told)


async def _is_wanted(db: AsyncSession, project_id: int, flag: str) -> bool:
    return bool(await db.scalar(_IS_WANTED, {"project": project_id, "wanted": flag}))


async def follow_ref(
    db: AsyncSession,
    forge: Forge,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> None:
    """Implements `ports.FollowRefChange`: a push of too many branches or tags is told to nobody, as in GitLab."""
    flag = "tag_push_events" if change.is_tag else "push_events"
    wanted = [one for one in (flag, "repository_update_events") if await _is_wanted(db, project.id, one)]
    if not wanted:
        return
    if change.refs_in_push > (await current_values(db)).push_event_hooks_limit:
        return
    facts = {
        "ref": change.ref,
        "before": change.old_sha,
        "after": change.new_sha,
        "user_id": user.id if user is not None else None,
        "push_options": list(push_options),
    }
    for one in wanted:
        await remember(db, project.id, one, facts)


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
    if not await _is_wanted(db, merge_request.project_id, "merge_requests_events"):
        return
    facts = {
        "id": merge_request.id,
        "user_id": user.id if user is not None else None,
        "action": action,
        "old_sha": old_sha,
        "was": snapshot(merge_request, await people.cast(db, merge_request)),
        "changes": {name: list(pair) for name, pair in (changes or {}).items()},
    }
    await remember(db, merge_request.project_id, "merge_requests_events", facts)


async def follow_note(
    db: AsyncSession,
    forge: Forge,
    *,
    merge_request: MergeRequest,
    note: MergeRequestNote,
    user: User,
    action: str = "create",
) -> None:
    """Implements `ports.MergeRequestCommented`."""
    flag = "confidential_note_events" if note.is_internal else "note_events"
    facts = {"id": note.id, "user_id": user.id, "of": "merge_request", "action": action}
    await remember(db, merge_request.project_id, flag, facts)


async def follow_commit_note(db: AsyncSession, forge: Forge, *, note: CommitNote, user: User) -> None:
    """Implements `ports.CommitCommented`."""
    facts = {"id": note.id, "user_id": user.id, "of": "commit", "action": "create"}
    await remember(db, note.project_id, "note_events", facts)
