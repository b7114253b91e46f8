"""Lists of projects: who sees which, and GitLab's filters.

Source: gitlabhq app/finders/projects_finder.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, bindparam, case, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from nautilus_forge.db.models import Member, Namespace, Project, ProjectImport, Star, Topic, User
from nautilus_forge.namespaces import level
from nautilus_forge.policy import Level, Visibility
from nautilus_forge.projects import shares
from nautilus_forge.users.queries import like

_ORDERS = {
    "id": Project.id,
    "name": Project.name,
    "path": Project.path,
    "created_at": Project.created_at,
    "updated_at": Project.updated_at,
    "last_activity_at": Project.last_activity_at,
    "star_count": Project.star_count,
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
    """Is the user a member of the project, of a group above it or that it is shared with, or does he own its
    namespace?
    """
    direct = select(Member.project_id).where(
        level.counts(user), Member.access_level >= at_least, Member.project_id.is_not(None)
    )
    spaces = select(Namespace.id).where(or_(Namespace.owner_id == user.id, level.belongs_to(user, at_least)))
    shared = shares.reached_by(user, at_least)
    return or_(Project.id.in_(direct), Project.namespace_id.in_(spaces), Project.id.in_(shared))


def owned_by(user: User) -> ColumnElement[bool]:
    return belongs_to(user, Level.OWNER)


def searched(statement: Select[Project], text: str, *, with_namespace: bool) -> Select[Project]:
    """Name, path or description contains the text (`with_namespace`: or the full path)."""
    columns: list[SQLColumnExpression[Any]] = [Project.name, Project.path, Project.description]
    if with_namespace:
        statement = statement.join(Namespace, Namespace.id == Project.namespace_id)
        columns.append(Namespace.full_path + "/" + Project.path)
    return statement.where(or_(*(_contains(column, text) for column in columns)))


def _contains(column: SQLColumnExpression[Any], text: str) -> ColumnElement[bool]:
    """Without regard to case. ASCII text is looked for among ASCII letters: a quarter of the time that all of
    Unicode's take, which is again a third less than ILIKE's.
    """
    if text.isascii():
        return func.lower(column.collate("C")).like(like(text.lower()))
    return func.lower(column).like(func.lower(like(text)))


def starred_by(user: User) -> ColumnElement[bool]:
    return Project.id.in_(select(Star.project_id).where(Star.user_id == user.id))


def about(statement: Select[Project], topics: Sequence[str], topic_id: int | None) -> Select[Project]:
    """Projects with all of these topics."""
    for topic in topics:
        statement = statement.where(Project.topics.contains([topic]))
    if topic_id is not None:
        name = select(func.jsonb_build_array(Topic.name)).where(Topic.id == topic_id).scalar_subquery()
        statement = statement.where(Project.topics.op("@>")(func.coalesce(name, literal("[0]").cast(JSONB))))
    return statement


def written_in(language: str) -> ColumnElement[bool]:
    """Without regard to case; as far as the project's languages have been counted."""
    key = func.jsonb_object_keys(Project.languages).column_valued("key")
    return select(key).where(func.lower(key) == language.lower()).correlate(Project).exists()


def is_imported() -> ColumnElement[bool]:
    return Project.id.in_(select(ProjectImport.project_id).where(ProjectImport.kind == "git"))


def has_feature(name: str) -> ColumnElement[bool]:
    """Is it not switched off (`issues_access_level`, …)?"""
    switched: ColumnElement[str] = func.coalesce(Project.attributes[name].astext, "enabled")
    return switched != "disabled"


def _similarity(text: str) -> ColumnElement[Any]:
    """How much of path, name and description the text is, the path counting most.

    Source: gitlabhq app/models/project.rb (`sorted_by_similarity_desc`: weights 1, 0.7, 0.2).
    """
    pattern = like(text)

    def share(column: InstrumentedAttribute[Any], weight: float) -> ColumnElement[Any]:
        length = func.greatest(func.length(column), 1)
        return case((column.ilike(pattern), weight * len(text) / length), else_=0.0)

    return share(Project.path, 1.0) + share(Project.name, 0.7) + share(Project.description, 0.2)


def ordered(
    statement: Select[Project], order_by: str, sort: str, search: str | None = None
) -> Select[Project]:
    """`similarity` needs a `search`, without it the order is that of creation."""
    if order_by == "similarity" and search:
        return statement.order_by(_similarity(search).desc(), Project.id.desc())
    column = _ORDERS.get(order_by, Project.created_at)
    if sort == "asc":
        return statement.order_by(column.asc(), Project.id.asc())
    return statement.order_by(column.desc(), Project.id.desc())


_MEMBERSHIPS = select(Member.project_id, Member.namespace_id, Member.access_level).where(
    Member.user_id == bindparam("user"),
    or_(
        Member.project_id.in_(bindparam("projects", expanding=True)),
        Member.namespace_id.in_(bindparam("namespaces", expanding=True)),
    ),
)
_USERS = select(User).where(User.id.in_(bindparam("ids", expanding=True)))


async def memberships(
    db: AsyncSession, user: User | None, projects: Sequence[Project]
) -> tuple[dict[int, int], dict[int, int]]:
    """The user's access levels in these projects and in their namespaces themselves, by the id of each."""
    if user is None or not projects:
        return {}, {}
    ids = [project.id for project in projects]
    spaces = list({project.namespace_id for project in projects})
    rows = (await db.execute(_MEMBERSHIPS, {"user": user.id, "projects": ids, "namespaces": spaces})).all()
    return (
        {row.project_id: row.access_level for row in rows if row.project_id is not None},
        {row.namespace_id: row.access_level for row in rows if row.namespace_id is not None},
    )


async def owners(db: AsyncSession, projects: Sequence[Project], known: User | None) -> dict[int, User]:
    """Users whose own namespaces these projects are in, by user id; `known` is not asked for again."""
    ids = {project.namespace.owner_id for project in projects if project.namespace.owner_id is not None}
    found = {known.id: known} if known is not None else {}
    missing = ids - set(found)
    if missing:
        found |= {user.id: user for user in await db.scalars(_USERS, {"ids": list(missing)})}
    return found
