"""Merge requests made and changed by a push: `git push -o merge_request.create -o merge_request.target=main`.

Source: gitlabhq lib/gitlab/push_options.rb, app/services/merge_requests/push_options_handler_service.rb,
doc/topics/git/commit.md ("Push options for merge requests").
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.errors import Forbidden, ForgeError
from nautilus_forge.forge import Forge
from nautilus_forge.git.commits import read_commit
from nautilus_forge.merge_requests import accepting, service
from nautilus_forge.merge_requests.access import is_authors
from nautilus_forge.merge_requests.mergeability import can_be_merged_by
from nautilus_forge.merge_requests.params import Attributes, ChangeMergeRequest
from nautilus_forge.policy import Ability
from nautilus_forge.ports import RefChange
from nautilus_forge.projects.access import standing_of
from nautilus_forge.projects.attributes import attribute

log = logging.getLogger(__name__)

_PREFIXES = ("merge_request.", "mr.")
_SEVERAL = ("label", "unlabel", "assign", "unassign")


def are_given(push_options: Sequence[str]) -> bool:
    return any(option.startswith(_PREFIXES) for option in push_options)


def parse(push_options: Sequence[str]) -> dict[str, Any]:
    """`{"create": True, "target": "main", "label": ["a", "b"]}`; an option without a value is True."""
    found: dict[str, Any] = {}
    for option in push_options:
        if not option.startswith(_PREFIXES):
            continue
        name, equals, value = option.partition(".")[2].partition("=")
        if name in _SEVERAL:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value if equals else True
    return found


async def carry_out(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    user: User,
    change: RefChange,
    push_options: Sequence[str],
) -> None:
    """What the options ask for the pushed branch. What cannot be done is logged: the push stands."""
    wanted = parse(push_options)
    branch = change.short_ref
    target_project = await _target_project(db, project)
    if branch == target_project.default_branch and target_project.id == project.id:
        return
    existing = await db.scalar(
        select(MergeRequest)
        .where(
            MergeRequest.project_id == target_project.id,
            MergeRequest.source_project_id == project.id,
            MergeRequest.source_branch == branch,
            MergeRequest.state == "opened",
        )
        .limit(1)
    )
    try:
        async with db.begin_nested():
            await _carry_out(db, forge, project, target_project, user, change, wanted, existing)
    except ForgeError as error:
        log.info("push options for %s of project %d: %s", change.ref, project.id, error)


async def _carry_out(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    target_project: Project,
    user: User,
    change: RefChange,
    wanted: dict[str, Any],
    existing: MergeRequest | None,
) -> None:
    if existing is None and wanted.get("create"):
        existing = await _create(db, forge, project, target_project, user, change, wanted)
    elif existing is not None:
        await _change(db, forge, target_project, user, existing, wanted)
    if existing is not None and wanted.get("merge_when_pipeline_succeeds", wanted.get("auto_merge")):
        await _merge_later(db, user, existing)


async def _target_project(db: AsyncSession, project: Project) -> Project:
    """A fork's branch goes to what it was forked from. Source: `Project#default_merge_request_target`."""
    if project.forked_from_id is None:
        return project
    parent = await db.get(Project, project.forked_from_id)
    return parent if parent is not None and parent.deleted_at is None else project


async def _create(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    target: Project,
    user: User,
    change: RefChange,
    wanted: dict[str, Any],
) -> MergeRequest:
    standing = await standing_of(db, Principal(user=user), project)
    standing.require(Ability.CREATE_MERGE_REQUEST)
    commit = await read_commit(forge.repositories.git(project.id), change.new_sha)
    title = _text(wanted, "title") or commit.title
    body = commit.message.partition("\n")[2].strip()
    attributes = await _attributes(db, wanted) | {"assignee_ids": [user.id]}
    attributes.setdefault("description", body)
    attributes.setdefault("remove_source_branch", attribute(project, "remove_source_branch_after_merge"))
    new = service.NewMergeRequest(
        source=project,
        source_branch=change.short_ref,
        target_branch=_text(wanted, "target") or target.default_branch,
        title=_drafted(title, wanted),
        attributes=Attributes.model_validate(attributes),
        target_project_id=target.id,
    )
    return await service.create(db, forge, Principal(user=user), new)


async def _change(
    db: AsyncSession,
    forge: Forge,
    target: Project,
    user: User,
    merge_request: MergeRequest,
    wanted: dict[str, Any],
) -> None:
    standing = await standing_of(db, Principal(user=user), target)
    if not await is_authors(db, merge_request, user):
        standing.require(Ability.UPDATE_MERGE_REQUEST)
    values: dict[str, Any] = await _attributes(db, wanted)
    if branch := _text(wanted, "target"):
        values["target_branch"] = branch
    title = _drafted(_text(wanted, "title") or merge_request.title, wanted)
    if title != merge_request.title:
        values["title"] = title
    if values:
        await service.change(db, forge, user, merge_request, ChangeMergeRequest.model_validate(values))


async def _attributes(db: AsyncSession, wanted: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if (text := _text(wanted, "description")) is not None:
        values["description"] = text.replace("\\n", "\n")
    if "remove_source_branch" in wanted:
        values["remove_source_branch"] = wanted["remove_source_branch"] in (True, "true", "1")
    if "label" in wanted:
        values["add_labels"] = wanted["label"]
    if "unlabel" in wanted:
        values["remove_labels"] = wanted["unlabel"]
    if names := wanted.get("assign"):
        lowered = [name.lower() for name in names]
        found = await db.scalars(select(User.id).where(func.lower(User.username).in_(lowered)))
        values["assignee_ids"] = list(found)
    return values


def _text(wanted: dict[str, Any], name: str) -> str | None:
    value = wanted.get(name)
    return value if isinstance(value, str) else None


def _drafted(title: str, wanted: dict[str, Any]) -> str:
    is_wanted = wanted.get("draft") in (True, "true", "1")
    return f"Draft: {title}" if is_wanted and not service.is_draft(title) else title


async def _merge_later(db: AsyncSession, user: User, merge_request: MergeRequest) -> None:
    """Raises `Forbidden`."""
    if not await can_be_merged_by(db, user, merge_request):
        raise Forbidden
    await accepting.schedule(db, user, merge_request)
