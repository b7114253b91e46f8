"""Lists of merge requests: who sees which, and GitLab's filters.

Source: gitlabhq app/finders/merge_requests_finder.rb, issuable_finder.rb, lib/api/helpers/merge_requests_helpers.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from nautilus_forge.db.models import (
    MergeRequest,
    MergeRequestPerson,
    MergeRequestVersion,
    Namespace,
    Project,
    User,
)
from nautilus_forge.merge_requests.params import ListMergeRequests, NotThese
from nautilus_forge.merge_requests.people import APPROVER, ASSIGNEE, REVIEWER
from nautilus_forge.policy import Level, Visibility
from nautilus_forge.projects.queries import belongs_to
from nautilus_forge.users.queries import like

_ORDERS: dict[str, Any] = {
    "created_at": MergeRequest.created_at,
    "updated_at": MergeRequest.updated_at,
    "merged_at": MergeRequest.merged_at,
    "title": func.lower(MergeRequest.title),
}


def of_project(project_id: int) -> Select[MergeRequest]:
    """All of a project that the caller may read."""
    return select(MergeRequest).where(MergeRequest.project_id == project_id)


def at_and_below(namespace_id: int) -> Select[int]:
    """The group and the groups below it."""
    return select(Namespace.id).where(Namespace.traversal_ids.contains([namespace_id]))


def has_commit(sha: str, iids: Sequence[int]) -> ColumnElement[bool]:
    """Is the commit its merge commit, or the head of one of its versions, or is the request one of `iids`?"""
    versions = select(MergeRequestVersion.merge_request_id).where(
        MergeRequestVersion.merge_request_id == MergeRequest.id, MergeRequestVersion.head_sha == sha
    )
    return or_(MergeRequest.merge_commit_sha == sha, versions.exists(), MergeRequest.iid.in_(iids))


def visible_to(user: User | None) -> Select[MergeRequest]:
    """All merge requests that the user (None: nobody) may read."""
    statement = select(MergeRequest).join(Project, Project.id == MergeRequest.project_id)
    feature = func.coalesce(Project.attributes["merge_requests_access_level"].astext, "enabled")
    statement = statement.where(Project.deleted_at.is_(None), feature != "disabled")
    if user is not None and user.is_admin:
        return statement
    public_only = user is None or user.is_external
    open_to = [Visibility.PUBLIC] if public_only else [Visibility.PUBLIC, Visibility.INTERNAL]
    is_open = Project.visibility.in_(open_to) & (feature == "enabled")
    if user is None:
        return statement.where(is_open)
    return statement.where(or_(is_open, belongs_to(user, Level.REPORTER)))


def filtered(
    statement: Select[MergeRequest], params: ListMergeRequests, user: User | None
) -> Select[MergeRequest]:
    """`user`: whom `scope` is about."""
    if params.state != "all":
        statement = statement.where(MergeRequest.state == params.state)
    match (params.scope or "all").replace("-", "_"):
        case "created_by_me":
            statement = statement.where(MergeRequest.author_id == (user.id if user else None))
        case "assigned_to_me":
            statement = statement.where(_someone(ASSIGNEE, user.id if user else 0))
    for column, value in (
        (MergeRequest.author_id, params.author_id),
        (MergeRequest.merge_user_id, params.merge_user_id),
        (MergeRequest.source_branch, params.source_branch),
        (MergeRequest.source_project_id, params.source_project_id),
        (MergeRequest.target_branch, params.target_branch),
    ):
        if value is not None:
            statement = statement.where(column == value)
    conditions = [*_people(params), *_words(params), *_times(params), *_excluded(params.excluded)]
    return statement.where(*conditions)


def ordered(statement: Select[MergeRequest], params: ListMergeRequests) -> Select[MergeRequest]:
    """By what we have; what labels, milestones and reactions would order by is the same for all here."""
    column = _ORDERS.get(params.order_by, MergeRequest.created_at)
    if params.sort == "asc":
        return statement.order_by(column.asc().nulls_last(), MergeRequest.id.asc())
    return statement.order_by(column.desc().nulls_last(), MergeRequest.id.desc())


def _named(username: str) -> Select[int]:
    return select(User.id).where(func.lower(User.username) == username.lower())


def _someone(role: str, who: Any) -> ColumnElement[bool]:
    """Has the merge request this person (`"any"`: anybody, `"none"`: nobody) in the role?"""
    rows = select(MergeRequestPerson.user_id).where(
        MergeRequestPerson.merge_request_id == MergeRequest.id, MergeRequestPerson.role == role
    )
    if who == "none":
        return ~rows.exists()
    if who == "any":
        return rows.exists()
    return rows.where(MergeRequestPerson.user_id == who).exists()


def _someone_named(role: str, username: str) -> ColumnElement[bool]:
    rows = select(MergeRequestPerson.user_id).where(
        MergeRequestPerson.merge_request_id == MergeRequest.id,
        MergeRequestPerson.role == role,
        MergeRequestPerson.user_id.in_(_named(username)),
    )
    return rows.exists()


def _people(params: ListMergeRequests) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if params.author_username is not None:
        found.append(MergeRequest.author_id.in_(_named(params.author_username)))
    if params.merge_user_username is not None:
        found.append(MergeRequest.merge_user_id.in_(_named(params.merge_user_username)))
    if params.assignee_id is not None:
        found.append(_someone(ASSIGNEE, params.assignee_id if params.assignee_id != 0 else "none"))
    if params.reviewer_id is not None:
        found.append(_someone(REVIEWER, params.reviewer_id if params.reviewer_id != 0 else "none"))
    found += [_someone_named(ASSIGNEE, name) for name in params.assignee_username or ()]
    if params.reviewer_username is not None:
        found.append(_someone_named(REVIEWER, params.reviewer_username))
    found += [_someone_named(APPROVER, name) for name in params.approved_by_usernames or ()]
    if isinstance(params.approved_by_ids, str):
        found.append(_someone(APPROVER, params.approved_by_ids))
    else:
        found += [_someone(APPROVER, user_id) for user_id in params.approved_by_ids or ()]
    if params.approved is not None:
        found.append(_someone(APPROVER, "any" if params.approved == "yes" else "none"))
    return found


def _words(params: ListMergeRequests) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    found += _with_labels(params.labels or ())
    if (params.milestone or "none").lower() not in ("none", "0"):
        found.append(MergeRequest.id.is_(None))
    if (params.my_reaction_emoji or "none").lower() != "none":
        found.append(MergeRequest.id.is_(None))
    if params.search:
        columns = {"title": MergeRequest.title, "description": MergeRequest.description}
        wanted = [columns[name.strip()] for name in params.search_in.split(",") if name.strip() in columns]
        pattern = like(params.search)
        found.append(or_(*(column.ilike(pattern) for column in wanted or columns.values())))
    if params.wip is not None:
        found.append(MergeRequest.is_draft.is_(params.wip == "yes"))
    if params.draft is not None:
        found.append(MergeRequest.is_draft.is_(params.draft))
    if params.iids is not None:
        found.append(MergeRequest.iid.in_(params.iids))
    return found


def _with_labels(labels: Any) -> list[ColumnElement[bool]]:
    """All of them; `None` and `Any` as the only one mean none and some."""
    names = list(labels)
    if not names:
        return []
    if len(names) == 1 and names[0].lower() in ("none", "any"):
        has_some = func.cardinality(MergeRequest.labels) > 0
        return [has_some if names[0].lower() == "any" else ~has_some]
    return [MergeRequest.labels.contains(names)]


def _times(params: ListMergeRequests) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if params.created_after is not None:
        found.append(MergeRequest.created_at >= params.created_after)
    if params.created_before is not None:
        found.append(MergeRequest.created_at <= params.created_before)
    if params.updated_after is not None:
        found.append(MergeRequest.updated_at >= params.updated_after)
    if params.updated_before is not None:
        found.append(MergeRequest.updated_at <= params.updated_before)
    return found


def _excluded(params: NotThese) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if params.author_id is not None:
        found.append(MergeRequest.author_id.is_distinct_from(params.author_id))
    if params.author_username is not None:
        found.append(MergeRequest.author_id.not_in(_named(params.author_username)))
    for role, user_id in ((ASSIGNEE, params.assignee_id), (REVIEWER, params.reviewer_id)):
        if user_id is not None:
            found.append(~_someone(role, user_id))
    found += [~_someone_named(ASSIGNEE, name) for name in params.assignee_username or ()]
    if params.reviewer_username is not None:
        found.append(~_someone_named(REVIEWER, params.reviewer_username))
    found += [~MergeRequest.labels.contains([name]) for name in params.labels or ()]
    return found
