"""Lists of projects, filtered and paged, and projects with what the viewer may see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import NotAllowed
from nautilus_forge.forge import Forge
from nautilus_forge.pagination import Page, counted
from nautilus_forge.policy import Level
from nautilus_forge.projects import entities, keyset, queries
from nautilus_forge.projects.params import ListProjects
from nautilus_forge.projects.surroundings import forks_counts, surroundings_of
from nautilus_forge.responses import Json


def filtered(user: User | None, params: ListProjects) -> Select[Project]:
    """What the user (None: nobody) may see of it, in the order asked for."""
    statement = queries.visible_to(user)
    if user is not None:
        if params.owned:
            statement = statement.where(queries.owned_by(user))
        if params.membership:
            statement = statement.where(queries.belongs_to(user, Level.GUEST))
        if params.min_access_level is not None:
            statement = statement.where(queries.belongs_to(user, params.min_access_level))
    if params.search:
        statement = queries.searched(statement, params.search, with_namespace=params.search_namespaces)
    if params.visibility is not None:
        statement = statement.where(Project.visibility == params.visibility)
    if params.archived is not None:
        statement = statement.where(Project.is_archived.is_(params.archived))
    if user is not None and params.starred:
        statement = statement.where(queries.starred_by(user))
    statement = queries.about(statement, params.topic or (), params.topic_id)
    if params.with_programming_language:
        statement = statement.where(queries.written_in(params.with_programming_language))
    if params.imported:
        statement = statement.where(queries.is_imported())
    for feature in params.wanted_features():
        statement = statement.where(queries.has_feature(feature))
    for column, low, high in (
        (Project.id, params.id_after, params.id_before),
        (Project.last_activity_at, params.last_activity_after, params.last_activity_before),
        (Project.updated_at, params.updated_after, params.updated_before),
    ):
        statement = statement.where(column > low) if low is not None else statement
        statement = statement.where(column < high) if high is not None else statement
    return queries.ordered(statement, params.order_by, params.sort, params.search)


async def listed(
    db: AsyncSession,
    forge: Forge,
    who: Principal,
    page: Page,
    params: ListProjects,
    statement: Select[Project],
) -> Response:
    """One page, by number or by key. Raises `NotAllowed` for keys in another order than that of the ids."""
    by_key = params.pagination == "keyset"
    if by_key and params.order_by != "id":
        raise NotAllowed(body={"error": "Keyset pagination is not yet available for this type of request"})
    total: int | None = None
    if by_key:
        found = await _rows(db, (await db.scalars(_only_ids(statement, page.per_page, 0))).all())
    elif params.search:
        found, total = await _matches(db, statement, page)
    else:
        found, total = await _page(db, statement, page, params)
    if params.simple or who.user is None:
        counts = await forks_counts(db, [project.id for project in found])
        page_of = [entities.basic(forge.settings, project, counts.get(project.id, 0)) for project in found]
    else:
        page_of = await shown(db, forge, who.user, found, with_statistics=params.statistics)
    if by_key:
        return Json(page_of, headers=keyset.headers(page, params.sort, [project.id for project in found]))
    return page.respond(page_of, total)


_BY_IDS = select(Project).where(Project.id.in_(bindparam("ids", expanding=True)))


def _only_ids(statement: Select[Project], limit: int, offset: int) -> Select[int]:
    """Of one page. They come before the rows, so that rows ahead of the page are not read whole."""
    ids = statement.with_only_columns(Project.id, maintain_column_froms=True).correlate(None)
    return ids.limit(limit).offset(offset)


async def _page(
    db: AsyncSession, statement: Select[Project], page: Page, params: ListProjects
) -> tuple[list[Project], int]:
    """One page and how many there are, by one query. `statement` as made by `filtered` from `params`."""
    ids = _only_ids(statement, page.per_page, page.offset)
    rows = select(Project, counted(statement).label("total")).where(Project.id.in_(ids))
    result = await db.execute(queries.ordered(rows, params.order_by, params.sort))
    found: Sequence[Row[Any]] = result.unique().all()
    if not found:
        return [], await page.count(db, statement) if page.offset else 0
    return [row.Project for row in found], found[0].total


async def _rows(db: AsyncSession, ids: Sequence[int]) -> list[Project]:
    """In the order of the ids."""
    rows = (await db.scalars(_BY_IDS, {"ids": ids})).unique().all() if ids else ()
    by_id = {project.id: project for project in rows}
    return [by_id[project_id] for project_id in ids if project_id in by_id]


async def _matches(
    db: AsyncSession, statement: Select[Project], page: Page
) -> tuple[list[Project], int | None]:
    """One page of a search and how many there are: every row is looked at once for both."""
    ids = statement.with_only_columns(Project.id, func.count().over(), maintain_column_froms=True)
    found = (await db.execute(ids.limit(page.per_page).offset(page.offset))).all()
    if not found:
        return [], await page.count(db, statement) if page.offset else 0
    return await _rows(db, [row[0] for row in found]), found[0][1]


async def shown(
    db: AsyncSession,
    forge: Forge,
    user: User | None,
    found: list[Project],
    *,
    with_statistics: bool = False,
) -> list[dict[str, Any]]:
    """As the user sees them; a fixed number of queries however many they are."""
    levels, groups = await queries.memberships(db, user, found)
    owners = await queries.owners(db, found, known=user)
    measured = [
        project
        for project in found
        if with_statistics
        and user is not None
        and (
            user.is_admin
            or project.namespace.owner_id == user.id
            or max(levels.get(project.id, 0), groups.get(project.namespace_id, 0)) >= Level.REPORTER
        )
    ]
    around = await surroundings_of(db, forge, user, found, measured=measured)
    return [
        entities.full(
            forge.settings,
            project,
            is_empty=forge.repositories.is_empty(project.id),
            owner=owners.get(project.namespace.owner_id or 0),
            project_level=levels.get(project.id),
            group_level=groups.get(project.namespace_id),
            sees_settings=user is not None
            and (
                user.is_admin
                or max(levels.get(project.id, 0), groups.get(project.namespace_id, 0)) >= Level.MAINTAINER
            ),
            around=around[project.id],
        )
        for project in found
    ]
