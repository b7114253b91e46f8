"""Lists of projects, filtered and paged, and projects with what the viewer may see of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import NotAllowed
from nautilus_forge.forge import Forge
from nautilus_forge.pagination import Page
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
    total = None if by_key else await page.count(db, statement)
    found = await _found(db, statement, page.per_page, 0 if by_key else page.offset)
    if params.simple or who.user is None:
        counts = await forks_counts(db, [project.id for project in found])
        page_of = [entities.basic(forge.settings, project, counts.get(project.id, 0)) for project in found]
    else:
        page_of = await shown(db, forge, who.user, found, with_statistics=params.statistics)
    if by_key:
        return Json(page_of, headers=keyset.headers(page, params.sort, [project.id for project in found]))
    return page.respond(page_of, total)


async def _found(db: AsyncSession, statement: Select[Project], limit: int, offset: int) -> list[Project]:
    """The rows of one page. Their ids come first, so that rows before the page are not read whole."""
    ids = statement.with_only_columns(Project.id, maintain_column_froms=True).limit(limit).offset(offset)
    wanted = list((await db.scalars(ids)).all())
    rows = (await db.scalars(select(Project).where(Project.id.in_(wanted)))).unique().all()
    by_id = {project.id: project for project in rows}
    return [by_id[project_id] for project_id in wanted if project_id in by_id]


async def shown(
    db: AsyncSession,
    forge: Forge,
    user: User | None,
    found: list[Project],
    *,
    with_statistics: bool = False,
) -> list[dict[str, Any]]:
    """As the user sees them; a fixed number of queries however many they are."""
    levels = await queries.memberships(db, user, [project.id for project in found])
    groups = await queries.group_memberships(db, user, list({project.namespace_id for project in found}))
    owners = await queries.owners(db, found)
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
