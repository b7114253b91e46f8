"""File locks: a file that one user alone may push changes of.

Source: gitlabhq app/services/lfs/{lock_file,unlock_file,locks_finder}_service.rb, app/models/lfs_file_lock.rb.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import LfsFileLock, User
from nautilus_forge.responses import timestamp

LONGEST_PATH = 511


async def lock(db: AsyncSession, project_id: int, user: User, path: str) -> tuple[LfsFileLock, bool]:
    """The file's lock, and whether it was made just now (else somebody has it already)."""
    made = LfsFileLock(project_id=project_id, user_id=user.id, path=path)
    try:
        async with db.begin_nested():
            db.add(made)
    except IntegrityError:
        known = await db.scalar(
            select(LfsFileLock).where(LfsFileLock.project_id == project_id, LfsFileLock.path == path)
        )
        if known is None:
            raise
        return known, False
    await db.refresh(made)
    return made, True


async def find(db: AsyncSession, project_id: int, lock_id: int) -> LfsFileLock | None:
    statement = select(LfsFileLock).where(LfsFileLock.project_id == project_id, LfsFileLock.id == lock_id)
    return await db.scalar(statement.with_for_update())


async def page(
    db: AsyncSession, project_id: int, *, after: int, limit: int, path: str = "", lock_id: int | None = None
) -> Sequence[tuple[LfsFileLock, User]]:
    """Locks with their owners, oldest first, at most `limit` of those whose id is above `after`."""
    statement = (
        select(LfsFileLock, User)
        .join(User, User.id == LfsFileLock.user_id)
        .where(LfsFileLock.project_id == project_id, LfsFileLock.id > after)
        .order_by(LfsFileLock.id)
        .limit(limit)
    )
    if path:
        statement = statement.where(LfsFileLock.path == path)
    if lock_id is not None:
        statement = statement.where(LfsFileLock.id == lock_id)
    return [(row[0], row[1]) for row in await db.execute(statement)]


async def of_others(db: AsyncSession, project_id: int, user_id: int | None) -> dict[str, str]:
    """Names of the owners of locks that this user (None: nobody, a deploy key) does not have, by path."""
    statement = (
        select(LfsFileLock.path, User.name)
        .join(User, User.id == LfsFileLock.user_id)
        .where(LfsFileLock.project_id == project_id)
    )
    if user_id is not None:
        statement = statement.where(LfsFileLock.user_id != user_id)
    return {row.path: row.name for row in await db.execute(statement)}


def first_locked(paths: Collection[str], locked: dict[str, str]) -> str | None:
    """GitLab's words for the first of the paths that somebody else has locked. Source: checks/diff_check.rb."""
    for path in paths:
        if path in locked:
            return f"The path '{path}' is locked in Git LFS by {locked[path]}"
    return None


def entity(lock: LfsFileLock, owner: User) -> dict[str, Any]:
    """Source: gitlabhq app/serializers/lfs_file_lock_entity.rb."""
    return {
        "id": str(lock.id),
        "path": lock.path,
        "locked_at": (timestamp(lock.created_at) or "")[:19] + "Z",
        "owner": {"name": owner.name},
    }
