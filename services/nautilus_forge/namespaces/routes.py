"""`/namespaces`.

Source: doc/api/namespaces.md.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.auth import Who
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Member, Namespace, User
from nautilus_forge.errors import NotFound
from nautilus_forge.namespaces.entities import namespace_basic
from nautilus_forge.namespaces.queries import find_namespace
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Id, ParamModel, Params, path_text
from nautilus_forge.responses import Json
from nautilus_forge.users.queries import like

router = APIRouter()

NamespaceRef = Annotated[str, Depends(path_text("id"))]


class ListNamespaces(ParamModel):
    search: str | None = None
    owned_only: bool = False


class Existence(ParamModel):
    parent_id: Id | None = None


@router.get("/namespaces")
async def list_namespaces(
    who: Who, db: Db, forge: TheForge, page: Paged, params: Annotated[ListNamespaces, Params(ListNamespaces)]
) -> Response:
    """One's own and those of one's groups; all of them for administrators."""
    user = who.require_user()
    statement = select(Namespace).order_by(Namespace.id)
    if params.owned_only or not user.is_admin:
        groups = select(Member.namespace_id).where(
            Member.user_id == user.id, Member.namespace_id.is_not(None)
        )
        statement = statement.where(or_(Namespace.owner_id == user.id, Namespace.id.in_(groups)))
    if params.search:
        pattern = like(params.search)
        statement = statement.where(or_(Namespace.name.ilike(pattern), Namespace.full_path.ilike(pattern)))
    return await page.of(db, statement, lambda namespace: namespace_basic(forge.settings, namespace))


@router.get("/namespaces/{id}")
async def read_namespace(who: Who, db: Db, forge: TheForge, id: NamespaceRef) -> Response:
    namespace = await find_namespace(db, id)
    if namespace is None or not await _may_see(db, who.require_user(), namespace):
        raise NotFound("Namespace")
    return Json(namespace_basic(forge.settings, namespace))


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
        func.lower(Namespace.path) == path.lower(), Namespace.parent_id.is_not_distinct_from(parent_id)
    )


async def _may_see(db: AsyncSession, user: User, namespace: Namespace) -> bool:
    if user.is_admin or namespace.owner_id == user.id:
        return True
    member = select(Member.id).where(Member.user_id == user.id, Member.namespace_id == namespace.id)
    return await db.scalar(member) is not None
