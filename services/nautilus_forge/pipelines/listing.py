"""Which pipelines a list shows.

Source: GitLab app/finders/ci/pipelines_finder.rb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, func, select

from nautilus_forge.db.models import Pipeline, User
from nautilus_forge.params import ParamModel
from nautilus_forge.pipelines.statuses import COMPLETED, Status


class PipelineFilter(ParamModel):
    scope: Literal["running", "pending", "finished", "branches", "tags"] | None = None
    status: Status | None = None
    ref: str | None = None
    sha: str | None = None
    yaml_errors: bool | None = None
    username: str | None = None
    updated_before: datetime | None = None
    updated_after: datetime | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    source: str | None = None
    name: str | None = None


def filtered(statement: Select[Any], params: PipelineFilter) -> Select[Any]:
    """The statement with what the client asks for."""
    match params.scope:
        case "running" | "pending":
            statement = statement.where(Pipeline.status == params.scope)
        case "finished":
            statement = statement.where(Pipeline.status.in_([status.value for status in COMPLETED]))
        case "branches" | "tags":
            kind = Pipeline.is_tag.is_(params.scope == "tags")
            newest = statement.with_only_columns(func.max(Pipeline.id)).where(kind).group_by(Pipeline.ref)
            statement = statement.where(Pipeline.id.in_(newest))
    for column, value in (
        (Pipeline.status, params.status.value if params.status is not None else None),
        (Pipeline.ref, params.ref),
        (Pipeline.sha, params.sha),
        (Pipeline.source, params.source),
        (Pipeline.name, params.name),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if params.yaml_errors is not None:
        broken = Pipeline.yaml_errors.is_not(None)
        statement = statement.where(broken if params.yaml_errors else ~broken)
    if params.username is not None:
        who = select(User.id).where(func.lower(User.username) == params.username.lower())
        statement = statement.where(Pipeline.user_id.in_(who))
    if params.updated_before is not None:
        statement = statement.where(Pipeline.updated_at < params.updated_before)
    if params.updated_after is not None:
        statement = statement.where(Pipeline.updated_at > params.updated_after)
    if params.created_before is not None:
        statement = statement.where(Pipeline.created_at < params.created_before)
    if params.created_after is not None:
        statement = statement.where(Pipeline.created_at > params.created_after)
    return statement
