"""Groups that a project is shared with: their members reach it, each with his level there, at most the share's.

Source: gitlabhq app/models/project_group_link.rb, app/services/projects/group_links/create_service.rb.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select

from nautilus_forge.db.models import Member, Namespace, Project, ProjectGroupLink, User
from nautilus_forge.namespaces import level


def is_alive() -> ColumnElement[bool]:
    """From its expiry day on a share counts for nothing."""
    today = datetime.now(UTC).date()
    return ProjectGroupLink.expires_at.is_(None) | (ProjectGroupLink.expires_at > today)


def _granted() -> ColumnElement[int]:
    return func.least(Member.access_level, ProjectGroupLink.group_access)


def _memberships(column: ColumnElement[int]) -> Select[int]:
    """Of the members of shares' groups, and of the groups above those."""
    return (
        select(column)
        .select_from(ProjectGroupLink)
        .join(Namespace, Namespace.id == ProjectGroupLink.group_id)
        .join(Member, Member.namespace_id == func.any(Namespace.traversal_ids))
        .where(is_alive(), Namespace.deleted_at.is_(None))
    )


def level_by_shares(user: User, project: Project) -> Select[int]:
    """The highest level that the user has in the project by shares alone; NULL for none."""
    highest: ColumnElement[int] = func.max(_granted())
    return _memberships(highest).where(level.counts(user), ProjectGroupLink.project_id == project.id)


def reached_by(user: User, at_least: int) -> Select[int]:
    """Ids of the projects that the user reaches by shares."""
    project_id: ColumnElement[int] = ProjectGroupLink.project_id.expression
    return _memberships(project_id).where(level.counts(user), _granted() >= at_least)


def users_of(project: Project) -> Select[int]:
    """Ids of the users who reach the project by shares."""
    user_id: ColumnElement[int] = Member.user_id.expression
    return _memberships(user_id).where(level.is_alive(), ProjectGroupLink.project_id == project.id)


def memberships_by_shares(project_id: int) -> Any:
    """Of the project's shares: id and user of each membership, the `level` that it gives, and 0 as its `nearness`."""
    return (
        select(Member.id, Member.user_id, _granted().label("level"), literal(0).label("nearness"))
        .select_from(ProjectGroupLink)
        .join(Namespace, Namespace.id == ProjectGroupLink.group_id)
        .join(Member, Member.namespace_id == func.any(Namespace.traversal_ids))
        .where(
            is_alive(),
            level.is_alive(),
            Namespace.deleted_at.is_(None),
            ProjectGroupLink.project_id == project_id,
        )
    )


def shared_with(group: Namespace) -> Select[int]:
    """Ids of the projects that are shared with the group itself."""
    return select(ProjectGroupLink.project_id).where(ProjectGroupLink.group_id == group.id, is_alive())
