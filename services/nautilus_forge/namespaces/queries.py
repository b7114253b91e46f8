"""Finding namespaces."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Namespace


async def find_namespace(db: AsyncSession, id_or_path: str) -> Namespace | None:
    """By id or by full path, without regard to case."""
    if id_or_path.isascii() and id_or_path.isdigit() and len(id_or_path) < 19:
        return await db.get(Namespace, int(id_or_path))
    return await db.scalar(select(Namespace).where(func.lower(Namespace.full_path) == id_or_path.lower()))
