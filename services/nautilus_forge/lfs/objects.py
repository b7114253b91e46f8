"""Which project has which objects. A project gets one by an upload of its bytes, or along a fork (`lfs.forks`); never
by naming it.

Source: gitlabhq app/models/lfs_object.rb, lfs_objects_project.rb, app/services/projects/lfs_pointers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import LfsLooseFile, LfsObject, LfsObjectProject, Project
from nautilus_forge.forge import Forge
from nautilus_forge.spool import Body


async def objects_of(db: AsyncSession, project_id: int, oids: Collection[str]) -> dict[str, LfsObject]:
    """Those of the named objects that the project has, by oid."""
    statement = (
        select(LfsObject)
        .join(LfsObjectProject, LfsObjectProject.lfs_object_id == LfsObject.id)
        .where(LfsObjectProject.project_id == project_id, LfsObject.oid.in_(set(oids)))
    )
    return {one.oid: one for one in await db.scalars(statement)}


async def keep(forge: Forge, project_id: int, oid: str, size: int, body: Body) -> None:
    """The body, whose hash and size have been checked, is the project's object when this returns.

    Raises `InsufficientStorage`. A crash at any moment leaves either the object, or at most a file that is named in
    `lfs_loose_files` and goes at the next start.
    """
    path = forge.lfs.store.new_path(oid)
    forge.lfs.under_way.add(path)
    try:
        if await _join_existing(forge, project_id, oid, size, or_note=path):
            return
        is_owned = False
        try:
            await asyncio.to_thread(forge.lfs.store.take, body, path)
            is_owned = await _own(forge, project_id, oid, size, path)
        finally:
            if not is_owned:
                await _drop(forge, path)
    finally:
        forge.lfs.under_way.discard(path)


async def _join_existing(forge: Forge, project_id: int, oid: str, size: int, *, or_note: str) -> bool:
    """The project gets an object that is stored already. False where there is none, or its file is damaged; then the
    path `or_note` is noted as a loose file.
    """
    async with forge.database.unit_of_work() as db:
        known = await db.scalar(
            select(LfsObject).where(LfsObject.oid == oid).with_for_update(read=True, key_share=True)
        )
        if known is None or not await asyncio.to_thread(forge.lfs.store.has, known.path, size):
            await db.execute(insert(LfsLooseFile).values(path=or_note))
            return False
        await _link(db, project_id, known.id)
        return True


async def _own(forge: Forge, project_id: int, oid: str, size: int, path: str) -> bool:
    """The object's row, with this file, and the project's part in it. False: there is an object with a file already."""
    async with forge.database.unit_of_work() as db:
        made = postgresql.insert(LfsObject).values(oid=oid, size=size, path=path)
        made = made.on_conflict_do_update(index_elements=[LfsObject.oid], set_={"oid": oid})
        row = (await db.execute(made.returning(LfsObject.id, LfsObject.path))).one()
        is_new = bool(row.path == path)
        if not is_new and not await asyncio.to_thread(forge.lfs.store.has, row.path, size):
            await _replace(db, row.id, row.path, path)
            is_new = True
        await _link(db, project_id, row.id)
        if is_new:
            await db.execute(delete(LfsLooseFile).where(LfsLooseFile.path == path))
    return is_new


async def _replace(db: AsyncSession, object_id: int, old: str, new: str) -> None:
    """A file that is missing or damaged gives way. Source: gitlabhq lfs_storage_controller.rb `replace_file!`."""
    stored = await db.get_one(LfsObject, object_id)
    stored.path = new
    await db.execute(insert(LfsLooseFile).values(path=old))
    await db.flush()


async def _link(db: AsyncSession, project_id: int, object_id: int) -> None:
    """Nothing where the project has been deleted meanwhile."""
    ours = select(Project.id, literal(object_id)).where(
        Project.id == project_id, Project.deleted_at.is_(None)
    )
    statement = postgresql.insert(LfsObjectProject).from_select(["project_id", "lfs_object_id"], ours)
    await db.execute(statement.on_conflict_do_nothing())


async def _drop(forge: Forge, path: str) -> None:
    await asyncio.to_thread(forge.lfs.store.remove, path)
    async with forge.database.unit_of_work() as db:
        await db.execute(delete(LfsLooseFile).where(LfsLooseFile.path == path))
