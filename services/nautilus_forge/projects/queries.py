"""Lists of projects: who sees which, and GitLab's filters.

Source: gitlabhq app/finders/projects_finder.rb.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.namespaces import level
from nautilus_forge.policy import Level, Visibility
from nautilus_forge.users.queries import like

_ORDERS = {
    "id": Project.id,
    "name": Project.name,
    "path": Project.path,
    "created_at": Project.created_at,
    "updated_at": Project.updated_at,
    "last_activity_at": Project.last_activity_at,
}


def visible_to(user: User | None) -> Select[Project]:
    """All projects that the user (None: nobody) may see."""
    statement = select(Project).where(Project.deleted_at.is_(None))
    if user is None:
        return statement.where(Project.visibility == Visibility.PUBLIC)
    if user.is_admin:
        return statement
    open_to = [Visibility.PUBLIC] if user.is_external else [Visibility.PUBLIC, Visibility.INTERNAL]
    return statement.where(or_(Project.visibility.in_(open_to), belongs_to(user, Level.GUEST)))


def belongs_to(user: User, at_least: int) -> ColumnElement[bool]:
    """Is the user a member of the project, or of a group above it, or the owner of its namespace?"""
    direct = select(Member.project_id).where(
        level.counts(user), Member.access_level >= at_least, Member.project_id.is_not(None)
    )
    spaces = select(Namespace.id).where(or_(Namespace.owner_id == user.id, level.belongs_to(user, at_least)))
    return or_(Project.id.in_(direct), Project.namespace_id.in_(spaces))


def owned_by(user: User) -> ColumnElement[bool]:
    return belongs_to(user, Level.OWNER)


def searched(statement: Select[Project], text: str, *, with_namespace: bool) -> Select[Project]:
    """Name, path or description contains the text (`with_namespace`: or the full path)."""
    pattern = like(text)
    columns = [Project.name.ilike(pattern), Project.path.ilike(pattern), Project.description.ilike(pattern)]
    if with_namespace:
        statement = statement.join(Namespace, Namespace.id == Project.namespace_id)
        columns.append((Namespace.full_path + "/" + Project.path).ilike(pattern))
    return statement.where(or_(*columns))


def ordered(statement: Select[Project], order_by: str, sort: str) -> Select[Project]:
    column = _ORDERS.get(order_by, Project.created_at)
    if sort == "asc":
        return statement.order_by(column.asc(), Project.id.asc())
    return statement.order_by(column.desc(), Project.id.desc())


async def memberships(db: AsyncSession, user: User | None, project_ids: list[int]) -> dict[int, int]:
    """The user's direct access levels, by project."""
    if user is None or not project_ids:
        return {}
    rows = await db.execute(
        select(Member.project_id, Member.access_level).where(
            Member.user_id == user.id, Member.project_id.in_(project_ids)
        )
    )
    return {project_id: level for project_id, level in rows if project_id is not None}


async def group_memberships(db: AsyncSession, user: User | None, namespace_ids: list[int]) -> dict[int, int]:
    """The user's access levels in these namespaces themselves."""
    if user is None or not namespace_ids:
        return {}
    rows = await db.execute(
        select(Member.namespace_id, Member.access_level).where(
            Member.user_id == user.id, Member.namespace_id.in_(namespace_ids)
        )
    )
    return {namespace_id: level for namespace_id, level in rows if namespace_id is not None}


async def owners(db: AsyncSession, projects: list[Project]) -> dict[int, User]:
    """Users whose own namespaces these projects are in, by user id."""
    ids = {project.namespace.owner_id for project in projects if project.namespace.owner_id is not None}
    if not ids:
        return {}
    return {user.id: user for user in (await db.scalars(select(User).where(User.id.in_(ids)))).all()}
