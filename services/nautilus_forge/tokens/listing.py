"""Filters of lists of access tokens.

Source: gitlabhq app/finders/personal_access_tokens_finder.rb, lib/api/helpers/personal_access_tokens_helpers.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import ColumnElement, Select, and_

from nautilus_forge.db.models import PersonalAccessToken
from nautilus_forge.params import Id, ParamModel
from nautilus_forge.users.queries import like

_COLUMNS = {
    "created": PersonalAccessToken.created_at,
    "expires": PersonalAccessToken.expires_at,
    "last_used": PersonalAccessToken.last_used_at,
    "name": PersonalAccessToken.name,
}


class ListTokens(ParamModel):
    user_id: Id | None = None
    revoked: bool | None = None
    state: Literal["active", "inactive", "all"] | None = None
    search: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None
    last_used_before: datetime | None = None
    last_used_after: datetime | None = None
    sort: (
        Literal[
            "created_asc",
            "created_desc",
            "expires_asc",
            "expires_desc",
            "last_used_asc",
            "last_used_desc",
            "name_asc",
            "name_desc",
        ]
        | None
    ) = None


def filtered(statement: Select[PersonalAccessToken], params: ListTokens) -> Select[PersonalAccessToken]:
    """The newest first, unless sorted otherwise."""
    token = PersonalAccessToken
    if params.revoked is not None:
        statement = statement.where(token.is_revoked.is_(params.revoked))
    if params.search:
        statement = statement.where(token.name.ilike(like(params.search)))
    for column, after, before in (
        (token.created_at, params.created_after, params.created_before),
        (token.last_used_at, params.last_used_after, params.last_used_before),
    ):
        statement = statement.where(column >= after) if after is not None else statement
        statement = statement.where(column <= before) if before is not None else statement
    if params.state in ("active", "inactive"):
        statement = statement.where(is_active() if params.state == "active" else ~is_active())
    if params.sort is None:
        return statement.order_by(token.id.desc())
    name, _, direction = params.sort.rpartition("_")
    by = _COLUMNS[name]
    return statement.order_by(by.asc() if direction == "asc" else by.desc(), token.id.desc())


def is_active() -> ColumnElement[bool]:
    token = PersonalAccessToken
    alive = token.expires_at.is_(None) | (token.expires_at > datetime.now(UTC).date())
    return and_(token.is_revoked.is_(False), alive)
