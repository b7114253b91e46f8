"""Merge requests as GitLab shows them.

Source: gitlabhq lib/api/entities/{merge_request_basic,merge_request_simple,merge_request,merge_request_changes,
merge_request_diff,merge_request_diff_full,merge_request_reviewer,merge_request_approvals,diff_refs}.rb.
"""

from __future__ import annotations

import re
from typing import Any

from nautilus_forge.db.models import MergeRequest, MergeRequestPerson, MergeRequestVersion, Project, User
from nautilus_forge.merge_requests.people import APPROVER, ASSIGNEE, REVIEWER, Cast
from nautilus_forge.repository.entities import project_url
from nautilus_forge.responses import timestamp
from nautilus_forge.settings import Settings
from nautilus_forge.users.entities import user_basic

_TASK = re.compile(r"^\s*(?:[-+*]|\d+[.)])\s+\[(?P<mark>[ xX~])\]\s", re.MULTILINE)


def web_url(settings: Settings, project: Project, iid: int) -> str:
    return f"{project_url(settings, project)}/-/merge_requests/{iid}"


def simple(settings: Settings, project: Project, shown: MergeRequest) -> dict[str, Any]:
    """What `view=simple` shows."""
    return {
        "id": shown.id,
        "iid": shown.iid,
        "project_id": shown.project_id,
        "title": shown.title,
        "description": shown.description,
        "state": shown.state,
        "created_at": timestamp(shown.created_at),
        "updated_at": timestamp(shown.updated_at),
        "web_url": web_url(settings, project, shown.iid),
    }


def _user(settings: Settings, user: User | None) -> dict[str, Any] | None:
    return user_basic(settings, user) if user is not None else None


def basic(
    settings: Settings,
    project: Project,
    shown: MergeRequest,
    people: Cast,
    *,
    note_count: int,
    detailed_status: str,
    has_open_threads: bool = False,
    label_details: bool = False,
) -> dict[str, Any]:
    """`project`: the target's. `detailed_status`: see `mergeability`."""
    assignees = [user_basic(settings, user) for user in people.of(ASSIGNEE)]
    merged_by = _user(settings, people.user(shown.merge_user_id)) if shown.state == "merged" else None
    reference = f"!{shown.iid}"
    entity = simple(settings, project, shown) | {
        "merged_by": merged_by,
        "merge_user": _user(settings, people.user(shown.merge_user_id)),
        "merged_at": timestamp(shown.merged_at),
        "closed_by": _user(settings, people.user(shown.closed_by_id)),
        "closed_at": timestamp(shown.closed_at),
        "target_branch": shown.target_branch,
        "source_branch": shown.source_branch,
        "user_notes_count": note_count,
        "upvotes": 0,
        "downvotes": 0,
        "author": _user(settings, people.user(shown.author_id)),
        "assignees": assignees,
        "assignee": assignees[0] if assignees else None,
        "reviewers": [user_basic(settings, user) for user in people.of(REVIEWER)],
        "source_project_id": shown.source_project_id,
        "target_project_id": shown.project_id,
        "labels": [_label(name) for name in shown.labels] if label_details else sorted(shown.labels),
        "draft": shown.is_draft,
        "imported": False,
        "imported_from": "none",
        "work_in_progress": shown.is_draft,
        "milestone": None,
        "merge_when_pipeline_succeeds": shown.auto_merge is not None,
        "merge_status": shown.merge_status,
        "detailed_merge_status": detailed_status,
        "merge_after": None,
        "sha": shown.sha,
        "merge_commit_sha": shown.merge_commit_sha,
        "squash_commit_sha": None,
        "discussion_locked": shown.discussion_locked,
        "should_remove_source_branch": shown.should_remove_source_branch,
        "force_remove_source_branch": shown.force_remove_source_branch,
        "prepared_at": timestamp(shown.created_at),
        "reference": reference,
        "references": {
            "short": reference,
            "relative": reference,
            "full": f"{project.path_with_namespace}{reference}",
        },
        "time_stats": {
            "time_estimate": 0,
            "total_time_spent": 0,
            "human_time_estimate": None,
            "human_total_time_spent": None,
        },
        "squash": shown.squash,
        "squash_on_merge": False,
        "task_completion_status": _tasks(shown.description or ""),
        "has_conflicts": shown.merge_status == "cannot_be_merged",
        "blocking_discussions_resolved": not has_open_threads,
        "approvals_before_merge": None,
    }
    if shown.source_project_id != shown.project_id:
        entity["allow_collaboration"] = entity["allow_maintainer_to_push"] = shown.allow_collaboration
    return entity


def _label(name: str) -> dict[str, Any]:
    """A label is a plain word here: it has neither a colour nor an id of its own."""
    return {
        "id": 0,
        "name": name,
        "description": None,
        "description_html": "",
        "text_color": "#FFFFFF",
        "color": "#6699cc",
    }


def _tasks(description: str) -> dict[str, int]:
    marks = [match["mark"] for match in _TASK.finditer(description)]
    return {
        "count": sum(mark != "~" for mark in marks),
        "completed_count": sum(mark in "xX" for mark in marks),
    }


def as_html(text: str | None) -> str:
    """A text as a paragraph; Markdown is not rendered."""
    from html import escape

    return f"<p>{escape(text)}</p>" if text else ""


def detail(
    entity: dict[str, Any],
    shown: MergeRequest,
    version: MergeRequestVersion | None,
    *,
    viewer: User | None,
    can_merge: bool,
    head_pipeline: tuple[dict[str, Any], dict[str, Any]] | None,
    is_first_contribution: bool,
) -> dict[str, Any]:
    """What one merge request has beyond `basic`. `head_pipeline`: in short and in full."""
    short, full = head_pipeline or (None, None)
    return entity | {
        "subscribed": viewer is not None and viewer.id == shown.author_id,
        "changes_count": version.file_count if version is not None and version.commit_count else None,
        "latest_build_started_at": full["started_at"] if full else None,
        "latest_build_finished_at": full["finished_at"] if full else None,
        "first_deployed_to_production_at": None,
        "pipeline": short,
        "head_pipeline": full,
        "diff_refs": diff_refs(version),
        "merge_error": shown.merge_error,
        "first_contribution": is_first_contribution,
        "user": {"can_merge": can_merge},
    }


def diff_refs(version: MergeRequestVersion | None) -> dict[str, Any] | None:
    if version is None or version.head_sha is None:
        return None
    return {"base_sha": version.base_sha, "head_sha": version.head_sha, "start_sha": version.start_sha}


def version_entity(shown: MergeRequestVersion) -> dict[str, Any]:
    return {
        "id": shown.id,
        "head_commit_sha": shown.head_sha,
        "base_commit_sha": shown.base_sha,
        "start_commit_sha": shown.start_sha,
        "created_at": timestamp(shown.created_at),
        "merge_request_id": shown.merge_request_id,
        "state": "collected" if shown.commit_count else "empty",
        "real_size": shown.file_count,
        "patch_id_sha": shown.patch_id,
    }


def reviewer(settings: Settings, row: MergeRequestPerson, user: User) -> dict[str, Any]:
    return {
        "user": user_basic(settings, user),
        "state": row.state,
        "created_at": timestamp(row.created_at),
    }


def approvals(
    settings: Settings, project: Project, shown: MergeRequest, people: Cast, viewer: User | None, *, can: bool
) -> dict[str, Any]:
    """`can`: may the viewer approve? Approvals are optional, as in GitLab CE."""
    has_approved = people.has(APPROVER, viewer)
    approved = [row for row in people.rows if row.role == APPROVER and row.user_id in people.users]
    return {
        "user_has_approved": has_approved,
        "user_can_approve": can and not has_approved,
        "approved": bool(approved),
        "approved_by": [
            {
                "user": user_basic(settings, people.users[row.user_id]),
                "approved_at": timestamp(row.created_at),
            }
            for row in approved
        ],
    }
