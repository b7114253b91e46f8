"""`/namespaces`.

Source: doc/api/namespaces.md, gitlabhq lib/api/namespaces.rb.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Who
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Namespace, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import NotFound
from nautilus_forge.groups.access import standing_of
from nautilus_forge.namespaces import entities, level
from nautilus_forge.namespaces.queries import find_namespace
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Id, ParamModel, Params, path_text
from nautilus_forge.policy import GroupAbility, Level
from nautilus_forge.responses import Json
from nautilus_forge.users.queries import like

router = APIRouter()

NamespaceRef = Annotated[str, Depends(path_text("id"))]


class ListNamespaces(ParamModel):
    search: str | None = None
    owned_only: bool = False
    top_level_only: bool = False


class Existence(ParamModel):
    parent_id: Id | None = None


@router.get("/namespaces")
async def list_namespaces(
    who: Who, db: Db, forge: TheForge, page: Paged, params: Annotated[ListNamespaces, Params(ListNamespaces)]
) -> Response:
    """One's own and those of one's groups; all of them for administrators. `owned_only`: those that one owns."""
    user = who.require_user()
    statement = select(Namespace).where(Namespace.deleted_at.is_(None)).order_by(Namespace.id)
    if params.owned_only or not user.is_admin:
        at_least = Level.OWNER if params.owned_only else Level.MINIMAL
        statement = statement.where(or_(Namespace.owner_id == user.id, level.belongs_to(user, at_least)))
    if params.top_level_only:
        statement = statement.where(Namespace.parent_id.is_(None))
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(Namespace.name.ilike(pattern), Namespace.full_path.ilike(pattern)))
    total = await page.count(db, statement)
    found = (await db.scalars(statement.limit(page.per_page).offset(page.offset))).all()
    shown = await entities.namespaces(db, forge.settings, user, found)
    return page.respond(shown, total)


@router.get("/namespaces/{id}")
async def read_namespace(who: Who, db: Db, forge: TheForge, id: NamespaceRef) -> Response:
    user = who.require_user()
    namespace = await find_namespace(db, id)
    if namespace is None or not await _may_see(db, user, namespace):
        raise NotFound("Namespace")
    return Json((await entities.namespaces(db, forge.settings, user, [namespace]))[0])


@router.get("/namespaces/{id}/exists")
async def namespace_exists(
    who: Who, db: Db, id: NamespaceRef, params: Annotated[Existence, Params(Existence)]
) -> Response:
    """Is the path taken below `parent_id` (none: at the top)? `suggests`: a path like it that is free."""
    taken = await db.scalar(_path_taken(id, params.parent_id))
    if taken is None:
        return Json({"exists": False, "suggests": []})
    number = 1
    while await db.scalar(_path_taken(f"{id}{number}", params.parent_id)) is not None:
        number += 1
    return Json({"exists": True, "suggests": [f"{id}{number}"]})


def _path_taken(path: str, parent_id: int | None) -> Any:
    return select(Namespace.id).where(
        func.lower(Namespace.path) == path.lower(),
        Namespace.parent_id.is_not_distinct_from(parent_id),
        Namespace.deleted_at.is_(None),
    )


async def _may_see(db: AsyncSession, user: User, namespace: Namespace) -> bool:
    """Groups by their visibility and membership; of a user's namespace he himself and administrators."""
    if namespace.kind == NamespaceKind.USER:
        return user.is_admin or namespace.owner_id == user.id
    return (await standing_of(db, user, namespace)).can(GroupAbility.READ_GROUP)
