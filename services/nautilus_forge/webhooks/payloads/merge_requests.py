"""Merge requests.

Source: gitlabhq lib/gitlab/hook_data/merge_request_builder.rb, lib/gitlab/data_builder/{issuable,pipeline}.rb,
app/services/merge_requests/base_service.rb (`hook_data`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, Pipeline, Project, User
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import mergeability, people, service
from nautilus_forge.merge_requests.entities import web_url
from nautilus_forge.merge_requests.people import ASSIGNEE, REVIEWER, Cast
from nautilus_forge.policy import Level
from nautilus_forge.projects.access import level_of
from nautilus_forge.webhooks.payloads import parts

_STATE_IDS = {"opened": 1, "closed": 2, "merged": 3}


def snapshot(merge_request: MergeRequest, cast: Cast) -> dict[str, Any]:
    """What of a merge request a later change would hide, as JSON; `build` takes it back."""
    return {
        "title": merge_request.title,
        "description": merge_request.description,
        "state": merge_request.state,
        "target_branch": merge_request.target_branch,
        "labels": list(merge_request.labels),
        "draft": merge_request.is_draft,
        "sha": merge_request.sha,
        "merge_commit_sha": merge_request.merge_commit_sha,
        "updated_at": parts.moment(merge_request.updated_at),
        "assignee_ids": [user.id for user in cast.of(ASSIGNEE)],
        "reviewer_ids": [user.id for user in cast.of(REVIEWER)],
    }


async def build(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    merge_request: MergeRequest,
    user: User | None,
    *,
    action: str | None = None,
    old_sha: str | None = None,
    was: Mapping[str, Any] | None = None,
    changes: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """`was`: its `snapshot` when it happened. `changes`: (previous, current) by attribute."""
    cast = await people.cast(db, merge_request)
    was = was or snapshot(merge_request, cast)
    attributes = await object_attributes(db, forge, project, merge_request, was)
    if action is not None:
        attributes["action"] = action
    if old_sha is not None:
        attributes["oldrev"] = old_sha
    users = await people.users_by_id(db, {*was["assignee_ids"], *was["reviewer_ids"]})
    payload = {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": parts.user(user),
        "project": parts.project(forge.settings, project),
        "object_attributes": attributes,
        "labels": attributes["labels"],
        "changes": await _changes(db, project, merge_request, changes or {}),
        "repository": parts.repository(forge.settings, project),
    }
    for name, ids in (("assignees", was["assignee_ids"]), ("reviewers", was["reviewer_ids"])):
        shown = [parts.user(users[one]) for one in ids if one in users]
        if shown:
            payload[name] = shown
    return payload


async def object_attributes(
    db: AsyncSession,
    forge: Forge,
    project: Project,
    merge_request: MergeRequest,
    was: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The merge request itself, as comments on it have it too."""
    was = was or snapshot(merge_request, await people.cast(db, merge_request))
    source = await db.get(Project, merge_request.source_project_id or 0)
    head = await parts.find_commit(forge.repositories.git(project.id), was["sha"])
    counted = (await service.counts(db, [merge_request.id])).get(merge_request.id, (0, False))
    pipeline = await mergeability.head_pipeline(db, merge_request)
    status = await mergeability.listed(db, project, merge_request, has_open_threads=counted[1])
    return {
        "assignee_id": next(iter(was["assignee_ids"]), None),
        "assignee_ids": was["assignee_ids"],
        "author_id": merge_request.author_id,
        "blocking_discussions_resolved": not counted[1],
        "created_at": parts.moment(merge_request.created_at),
        "description": was["description"],
        "detailed_merge_status": status,
        "draft": was["draft"],
        "first_contribution": await _is_first_contribution(db, project, merge_request),
        "head_pipeline_id": pipeline.id if pipeline is not None else None,
        "human_time_change": None,
        "human_time_estimate": None,
        "human_total_time_spent": None,
        "id": merge_request.id,
        "iid": merge_request.iid,
        "labels": [_label(project, merge_request, name) for name in was["labels"]],
        "last_commit": parts.commit(forge.settings, project, head) if head is not None else None,
        "last_edited_at": None,
        "last_edited_by_id": None,
        "merge_commit_sha": was["merge_commit_sha"],
        "merge_error": merge_request.merge_error,
        "merge_params": {"force_remove_source_branch": merge_request.force_remove_source_branch},
        "merge_status": merge_request.merge_status,
        "merge_user_id": merge_request.merge_user_id,
        "merge_when_pipeline_succeeds": merge_request.auto_merge is not None,
        "milestone_id": None,
        "prepared_at": parts.moment(merge_request.created_at),
        "reviewer_ids": was["reviewer_ids"],
        "source": parts.project(forge.settings, source) if source is not None else None,
        "source_branch": merge_request.source_branch,
        "source_project_id": merge_request.source_project_id,
        "state": was["state"],
        "state_id": _STATE_IDS[was["state"]],
        "target": parts.project(forge.settings, project),
        "target_branch": was["target_branch"],
        "target_project_id": project.id,
        "time_change": 0,
        "time_estimate": 0,
        "title": was["title"],
        "total_time_spent": 0,
        "updated_at": was["updated_at"],
        "updated_by_id": None,
        "url": web_url(forge.settings, project, merge_request.iid),
        "work_in_progress": was["draft"],
    }


async def _is_first_contribution(db: AsyncSession, project: Project, merge_request: MergeRequest) -> bool:
    author = await db.get(User, merge_request.author_id or 0)
    if author is None or await level_of(db, author, project) > Level.GUEST:
        return False
    return await db.scalar(service.merged_of(author.id, project.id)) is None


def _label(project: Project, merge_request: MergeRequest, name: str) -> dict[str, Any]:
    """A label is a plain word here: it has neither a colour nor an id of its own."""
    return {
        "id": 0,
        "title": name,
        "color": "#6699cc",
        "project_id": project.id,
        "created_at": parts.moment(merge_request.created_at),
        "updated_at": parts.moment(merge_request.created_at),
        "template": False,
        "description": None,
        "type": "ProjectLabel",
        "group_id": None,
    }


async def _changes(
    db: AsyncSession, project: Project, merge_request: MergeRequest, changes: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """As GitLab names and shows them."""
    named = {"assignee_ids": "assignees", "reviewer_ids": "reviewers"}
    shown: dict[str, Any] = {}
    for name, pair in changes.items():
        values = list(pair)
        if name == "labels":
            values = [[_label(project, merge_request, one) for one in labels] for labels in pair]
        elif name in named:
            users = await people.users_by_id(db, {one for ids in pair for one in ids})
            values = [[parts.user(users[one]) for one in ids if one in users] for ids in pair]
        shown[named.get(name, name)] = {"previous": values[0], "current": values[1]}
    if "state" in shown:
        state = shown.pop("state")
        shown["state_id"] = {when: _STATE_IDS[value] for when, value in state.items()}
    return shown


async def of_pipeline(db: AsyncSession, forge: Forge, pipeline: Pipeline) -> dict[str, Any] | None:
    """What a pipeline's payload says of the merge request that it is for."""
    merge_request = await db.get(MergeRequest, pipeline.merge_request_id or 0)
    if merge_request is None:
        return None
    project = await db.get_one(Project, merge_request.project_id)
    return {
        "id": merge_request.id,
        "iid": merge_request.iid,
        "title": merge_request.title,
        "source_branch": merge_request.source_branch,
        "source_project_id": merge_request.source_project_id,
        "target_branch": merge_request.target_branch,
        "target_project_id": merge_request.project_id,
        "state": merge_request.state,
        "merge_status": merge_request.merge_status,
        "detailed_merge_status": await mergeability.listed(
            db, project, merge_request, has_open_threads=False
        ),
        "url": web_url(forge.settings, project, merge_request.iid),
    }
