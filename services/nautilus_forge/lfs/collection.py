"""Deleting LFS objects that no project has any more, and files that no object owns."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import delete, exists, insert, select

from nautilus_forge.db.models import LfsLooseFile, LfsObject, LfsObjectProject
from nautilus_forge.forge import Forge

log = logging.getLogger(__name__)

_BATCH = 500


async def collect(forge: Forge) -> None:
    """First the rows: their files become loose. Then the loose files, and with each its row."""
    while count := await _disown(forge):
        log.info("%d LFS objects belong to no project any more", count)
    await _remove_loose_files(forge)


async def _disown(forge: Forge) -> int:
    """Objects are locked before they are looked at again: a project may be getting one at this moment."""
    has_project = exists().where(LfsObjectProject.lfs_object_id == LfsObject.id)
    async with forge.database.unit_of_work() as db:
        candidates = select(LfsObject.id).where(~has_project).limit(_BATCH).with_for_update(skip_locked=True)
        ids = (await db.scalars(candidates)).all()
        if not ids:
            return 0
        doomed = delete(LfsObject).where(LfsObject.id.in_(ids), ~has_project).returning(LfsObject.path)
        paths = (await db.scalars(doomed)).all()
        if paths:
            await db.execute(insert(LfsLooseFile), [{"path": path} for path in paths])
    return len(paths)


async def _remove_loose_files(forge: Forge) -> None:
    async with forge.database.session() as db:
        paths = (await db.scalars(select(LfsLooseFile.path))).all()
    for path in paths:
        if path in forge.lfs.under_way:
            continue
        await asyncio.to_thread(forge.lfs.store.remove, path)
        async with forge.database.unit_of_work() as db:
            await db.execute(delete(LfsLooseFile).where(LfsLooseFile.path == path))
