"""Finding users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace, User
from nautilus_forge.errors import NotFound

_ORDERS = {
    "id": User.id,
    "name": User.name,
    "username": User.username,
    "created_at": User.created_at,
    "updated_at": User.updated_at,
}


async def existing_user(db: AsyncSession, user_id: int) -> User:
    """Raises `NotFound`."""
    user = await db.get(User, user_id)
    if user is None:
        raise NotFound("User")
    return user


async def namespace_ids(db: AsyncSession, users: Sequence[User]) -> dict[int, int]:
    """The ids of the users' own namespaces, by the users'; bots have none."""
    rows = await db.execute(
        select(Namespace.owner_id, Namespace.id).where(Namespace.owner_id.in_([user.id for user in users]))
    )
    return {row.owner_id: row.id for row in rows}


async def creators(db: AsyncSession, users: Sequence[User]) -> dict[int, User]:
    """Who made these accounts, by id."""
    ids = {user.created_by_id for user in users if user.created_by_id is not None}
    if not ids:
        return {}
    return {user.id: user for user in (await db.scalars(select(User).where(User.id.in_(ids)))).all()}


def like(text: str) -> str:
    """A LIKE pattern for "contains", with the wildcards of the text taken literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def matching(text: str, *, by_email: bool) -> Select[User]:
    """Users whose name or user name contains `text`, or whose address is exactly it (part of it: `by_email`)."""
    pattern = like(text)
    email = User.email.ilike(pattern) if by_email else func.lower(User.email) == text.lower()
    return select(User).where(or_(User.name.ilike(pattern), User.username.ilike(pattern), email))


def key_of(order_by: str) -> tuple[Any, ...]:
    """The columns that such an order goes by, together unique."""
    column: Any = _ORDERS[order_by]
    return (column,) if order_by == "id" else (column, User.id)


def ordered(statement: Select[User], order_by: str, sort: str) -> Select[User]:
    column = _ORDERS[order_by]
    return statement.order_by(column.asc() if sort == "asc" else column.desc(), User.id)
