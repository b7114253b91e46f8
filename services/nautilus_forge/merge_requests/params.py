"""Parameters of the merge requests API.

Source: gitlabhq lib/api/merge_requests.rb, lib/api/helpers/merge_requests_helpers.rb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator

from nautilus_forge.params import CommaList, Field, Id, ParamModel

LONGEST_TITLE = 255
LONGEST_DESCRIPTION = 1_000_000


def _ids(value: Any) -> Any:
    """`""`, `"0"` and `[""]` stand for nobody; `"1,2"` for two."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list):
        return [item for item in value if item not in ("", None)]
    return value


def _someone(value: Any) -> Any:
    """`None` and `Any`, in whatever case, or a number."""
    return value.lower() if isinstance(value, str) and value.lower() in ("none", "any") else value


Ids = Annotated[list[Id], BeforeValidator(_ids)]
Someone = Annotated[Literal["none", "any"] | Id, BeforeValidator(_someone)]
SomePeople = Annotated[Literal["none", "any"] | Ids, BeforeValidator(_someone)]


class Attributes(ParamModel):
    """What may be set when a merge request is made, and changed later."""

    description: str | None = Field(default=None, max_length=LONGEST_DESCRIPTION)
    assignee_id: Annotated[Id | None, BeforeValidator(lambda value: value or None)] = None
    assignee_ids: Ids | None = None
    reviewer_ids: Ids | None = None
    labels: CommaList | None = None
    add_labels: CommaList | None = None
    remove_labels: CommaList | None = None
    milestone_id: Id | None = None
    remove_source_branch: bool | None = None
    allow_collaboration: bool | None = Field(
        default=None, validation_alias=AliasChoices("allow_collaboration", "allow_maintainer_to_push")
    )
    squash: bool | None = None
    merge_after: str | None = None


class CreateMergeRequest(Attributes):
    title: str
    source_branch: str
    target_branch: str
    target_project_id: Id | None = None


class ChangeMergeRequest(Attributes):
    """Of `AT_LEAST_ONE_OF` one must be there."""

    title: str | None = Field(default=None, min_length=1)
    target_branch: str | None = Field(default=None, min_length=1)
    state_event: Literal["close", "reopen"] | None = None
    discussion_locked: bool | None = None


AT_LEAST_ONE_OF = (
    "assignee_id",
    "assignee_ids",
    "reviewer_ids",
    "description",
    "labels",
    "add_labels",
    "remove_labels",
    "milestone_id",
    "remove_source_branch",
    "allow_collaboration",
    "allow_maintainer_to_push",
    "squash",
    "target_branch",
    "title",
    "state_event",
    "discussion_locked",
    "merge_after",
)


class NotThese(ParamModel):
    """`not[author_id]=1`: those to leave out."""

    author_id: Id | None = None
    author_username: str | None = None
    assignee_id: Id | None = None
    assignee_username: CommaList | None = None
    reviewer_id: Id | None = None
    reviewer_username: str | None = None
    labels: CommaList | None = None
    milestone: str | None = None


class ListMergeRequests(ParamModel):
    state: Literal["opened", "closed", "locked", "merged", "all"] = "all"
    scope: Literal["created-by-me", "assigned-to-me", "created_by_me", "assigned_to_me", "all"] | None = None
    order_by: Literal[
        "created_at",
        "label_priority",
        "milestone_due",
        "popularity",
        "priority",
        "title",
        "updated_at",
        "merged_at",
    ] = "created_at"
    sort: Literal["asc", "desc"] = "desc"
    view: Literal["simple"] | None = None
    with_labels_details: bool = False
    with_merge_status_recheck: bool = False
    author_id: Id | None = None
    author_username: str | None = None
    assignee_id: Someone | None = None
    assignee_username: CommaList | None = None
    reviewer_id: Someone | None = None
    reviewer_username: str | None = None
    merge_user_id: Id | None = None
    merge_user_username: str | None = None
    approved: Literal["yes", "no"] | None = None
    approved_by_ids: SomePeople | None = None
    approved_by_usernames: CommaList | None = None
    labels: CommaList | None = None
    milestone: str | None = None
    my_reaction_emoji: str | None = None
    source_branch: str | None = None
    source_project_id: Id | None = None
    target_branch: str | None = None
    search: str | None = None
    search_in: str = Field(default="title,description", validation_alias="in")
    wip: Literal["yes", "no"] | None = None
    draft: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None
    iids: Ids | None = None
    non_archived: bool = True
    excluded: NotThese = Field(default_factory=NotThese, validation_alias="not")


class ReadMergeRequest(ParamModel):
    render_html: bool = False
    include_diverged_commits_count: bool = False
    include_rebase_in_progress: bool = False


class Accept(ParamModel):
    """`PUT …/merge`. `auto_merge` is the newer name of `merge_when_pipeline_succeeds`."""

    merge_commit_message: str | None = None
    squash_commit_message: str | None = None
    should_remove_source_branch: bool | None = None
    auto_merge: bool = Field(
        default=False, validation_alias=AliasChoices("auto_merge", "merge_when_pipeline_succeeds")
    )
    sha: str | None = None
    squash: bool | None = None
