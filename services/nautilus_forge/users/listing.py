"""Filters of lists of users.

Source: gitlabhq app/finders/users_finder.rb, lib/api/users.rb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Select, exists, false, func, select

from nautilus_forge.cursors import Keyset
from nautilus_forge.db.models import Member, User
from nautilus_forge.users.queries import matching


class ListUsers(Keyset):
    username: str | None = None
    extern_uid: str | None = None
    provider: str | None = None
    search: str | None = None
    active: bool = False
    exclude_active: bool = False
    blocked: bool = False
    external: bool = False
    exclude_external: bool = False
    admins: bool = False
    humans: bool = False
    exclude_humans: bool = False
    exclude_internal: bool = False
    without_project_bots: bool = False
    without_projects: bool = False
    two_factor: Literal["enabled", "disabled"] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    order_by: Literal["id", "name", "username", "created_at", "updated_at"] = "id"
    sort: Literal["asc", "desc"] = "desc"


def filtered(params: ListUsers, *, is_admin: bool) -> Select[User]:
    """Source: app/finders/users_finder.rb; some filters are for administrators alone."""
    statement = matching(params.search, by_email=is_admin) if params.search else select(User)
    is_human = User.is_bot.is_(False)
    in_a_project = exists().where(Member.user_id == User.id, Member.project_id.is_not(None))
    kept: list[ColumnElement[bool]] = []
    if params.username is not None:
        kept.append(func.lower(User.username) == params.username.lower())
    for wanted, condition in (
        (params.active, User.state == "active"),
        (params.exclude_active, User.state != "active"),
        (params.blocked, User.state == "blocked"),
        (params.external, User.is_external.is_(True)),
        (params.exclude_external, User.is_external.is_(False)),
        (params.humans or params.without_project_bots, is_human),
        (params.exclude_humans, User.is_bot.is_(True)),
        (is_admin and params.admins, User.is_admin.is_(True)),
        (not is_admin, User.state.not_in(("blocked", "banned"))),
        (is_admin and params.without_projects, ~in_a_project),
        ((is_admin and params.two_factor == "enabled") or params.provider is not None, false()),
    ):
        if wanted:
            kept.append(condition)
    if is_admin and params.created_after is not None:
        kept.append(User.created_at >= params.created_after)
    if is_admin and params.created_before is not None:
        kept.append(User.created_at <= params.created_before)
    return statement.where(*kept)
