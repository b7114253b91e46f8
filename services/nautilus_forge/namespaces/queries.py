"""Finding namespaces."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace


async def find_namespace(db: AsyncSession, id_or_path: str) -> Namespace | None:
    """By id or by full path, without regard to case; deleted ones are not found."""
    statement = select(Namespace).where(Namespace.deleted_at.is_(None))
    if id_or_path.isascii() and id_or_path.isdigit() and len(id_or_path) < 19:
        return await db.scalar(statement.where(Namespace.id == int(id_or_path)))
    return await db.scalar(statement.where(func.lower(Namespace.full_path) == id_or_path.lower()))
