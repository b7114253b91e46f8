"""Lists of groups: who sees which, and GitLab's filters.

Source: gitlabhq app/finders/groups_finder.rb, app/finders/group_projects_finder.rb.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, false, func, or_, select

from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.groups.params import ListGroups
from nautilus_forge.namespaces import level
from nautilus_forge.policy import Level, Visibility
from nautilus_forge.users.queries import like

_ORDERS: dict[str, Any] = {"name": Namespace.name, "path": Namespace.path, "id": Namespace.id}


def groups() -> Select[Namespace]:
    """All that are not deleted."""
    return select(Namespace).where(Namespace.kind == NamespaceKind.GROUP, Namespace.deleted_at.is_(None))


def filtered(user: User | None, params: ListGroups, *, below: bool = False) -> Select[Namespace]:
    """The groups that `GET /groups` shows. `below`: of one group's subgroups, where all that may be seen count.

    Source: lib/api/groups.rb (`find_groups`): without `all_available` a user sees those that he belongs to.
    """
    statement = groups()
    if user is None:
        statement = statement.where(Namespace.visibility == Visibility.PUBLIC)
    elif params.owned:
        statement = statement.where(level.belongs_to(user, Level.OWNER))
    elif params.min_access_level is not None:
        statement = statement.where(level.belongs_to(user, params.min_access_level))
    elif not user.is_admin:
        only_own = params.all_available is False and not below
        statement = statement.where(or_(_passes(user), false() if only_own else _is_open_to(user)))
    elif params.all_available is False and not below:
        statement = statement.where(_passes(user))
    return _narrowed(statement, params)


def _narrowed(statement: Select[Namespace], params: ListGroups) -> Select[Namespace]:
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(Namespace.name.ilike(pattern), Namespace.full_path.ilike(pattern)))
    if params.visibility is not None:
        statement = statement.where(Namespace.visibility == params.visibility)
    if params.top_level_only:
        statement = statement.where(Namespace.parent_id.is_(None))
    if params.skip_groups:
        statement = statement.where(Namespace.id.not_in(params.skip_groups))
    column = _ORDERS.get(params.order_by, Namespace.name)
    column = func.lower(column) if column is not Namespace.id else column
    return statement.order_by(column.asc() if params.sort == "asc" else column.desc(), Namespace.id)


def _is_open_to(user: User) -> ColumnElement[bool]:
    open_to = [Visibility.PUBLIC] if user.is_external else [Visibility.PUBLIC, Visibility.INTERNAL]
    return Namespace.visibility.in_(open_to)


def _passes(user: User) -> ColumnElement[bool]:
    """As `level.belongs_to`, or a group on the way down to where the user is a member."""
    joined = select(Member.namespace_id).where(level.counts(user), Member.namespace_id.is_not(None))
    of_projects = (
        select(Project.namespace_id)
        .join(Member, Member.project_id == Project.id)
        .where(level.counts(user), Project.deleted_at.is_(None))
    )
    ends = select(func.unnest(Namespace.traversal_ids)).where(
        or_(Namespace.id.in_(joined), Namespace.id.in_(of_projects))
    )
    return or_(level.belongs_to(user, Level.MINIMAL), Namespace.id.in_(ends))


def below(group: Namespace) -> ColumnElement[bool]:
    """The namespaces in it, at any depth, and itself."""
    return Namespace.traversal_ids.contains([group.id])
