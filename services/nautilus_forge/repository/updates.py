"""What follows when branches and tags move: remembered before git moves them, handled once afterwards.

1. `announce` writes a `RefUpdate` row (pre-receive, or before the API moves a ref) and commits it.
2. git moves the ref.
3. `on_refs_changed` deletes the row and makes the pipeline in one transaction.

A crash between 2 and 3 leaves the row; `sweep` (at start, and every half minute) finds that the ref has moved
and does 3. Whoever deletes the row makes the pipeline: so it is made exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import Project, RefUpdate, User
from nautilus_forge.forge import Forge
from nautilus_forge.git.refs import ref_sha
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects.branches import protect_default_branch

log = logging.getLogger(__name__)

PIPELINES_PER_PUSH = 4
"""So many branches and tags of one push get pipelines, no more, as in GitLab."""
_AT_ONCE = 200
_SWEEP_EVERY_S = 30.0
_FRESH = timedelta(seconds=30)
"""A row younger than this belongs to a push that is still under way."""
_LOST = timedelta(minutes=15)
"""After so long a ref that has not moved never will."""


async def announce(
    db: AsyncSession,
    project_id: int,
    user_id: int | None,
    changes: Sequence[RefChange],
    push_options: Sequence[str] = (),
) -> None:
    """Remember changes that are about to happen. The caller commits before git moves anything."""
    if not changes:
        return
    in_all = Counter(change.is_tag for change in changes)
    places = {False: count(1), True: count(1)}
    rows = [
        {
            "project_id": project_id,
            "user_id": user_id,
            "ref": change.ref,
            "old_sha": change.old_sha,
            "new_sha": change.new_sha,
            "push_options": list(push_options),
            "refs_in_push": in_all[change.is_tag],
            "place_in_push": next(places[change.is_tag]),
        }
        for change in changes
    ]
    await db.execute(insert(RefUpdate), rows)


async def withdraw(forge: Forge, project_id: int, change: RefChange) -> None:
    """Forget an announced change that git refused."""
    async with forge.database.unit_of_work() as db:
        await db.execute(delete(RefUpdate).where(*_is(project_id, change)))


async def on_refs_changed(forge: Forge, project_id: int, changes: Sequence[RefChange]) -> None:
    """Handle the announced changes of one push, which have happened. What fails is swept up later.

    The first few get pipelines, each in its own transaction; of the others many share one.
    Source: gitlabhq app/services/git/process_ref_changes_service.rb (`PIPELINE_PROCESS_LIMIT`).
    """
    for change in changes[:PIPELINES_PER_PUSH]:
        await _settle(forge, project_id, [change], makes_pipelines=True)
    for start in range(PIPELINES_PER_PUSH, len(changes), _AT_ONCE):
        await _settle(forge, project_id, changes[start : start + _AT_ONCE], makes_pipelines=False)
    if changes and forge.maintenance.is_due(project_id):
        forge.spawn(forge.maintenance.run(forge.repositories.git(project_id)), "maintenance")


async def _settle(
    forge: Forge, project_id: int, changes: Sequence[RefChange], *, makes_pipelines: bool
) -> None:
    """In one transaction; each in its own where that fails."""
    try:
        async with forge.database.unit_of_work() as db:
            rows = await _rows(db, project_id, changes)
            if rows:
                await _note_activity(db, project_id)
            for row in rows:
                await _handle(db, forge, row, makes_pipelines=makes_pipelines)
    except Exception:
        if len(changes) == 1:
            log.exception("handling %s of project %d failed", changes[0].ref, project_id)
            return
        for change in changes:
            await _settle(forge, project_id, [change], makes_pipelines=makes_pipelines)


async def _rows(db: AsyncSession, project_id: int, changes: Sequence[RefChange]) -> Sequence[RefUpdate]:
    """The rows of the changes, one each, locked; none for what somebody else is just handling."""
    wanted = {(change.ref, change.old_sha, change.new_sha) for change in changes}
    statement = (
        select(RefUpdate)
        .where(RefUpdate.project_id == project_id, RefUpdate.ref.in_([change.ref for change in changes]))
        .order_by(RefUpdate.id)
        .with_for_update(skip_locked=True)
    )
    found: dict[tuple[str, str, str], RefUpdate] = {}
    for row in await db.scalars(statement):
        key = (row.ref, row.old_sha, row.new_sha)
        if key in wanted:
            found.setdefault(key, row)
    return list(found.values())


async def _note_activity(db: AsyncSession, project_id: int) -> None:
    await db.execute(
        update(Project)
        .where(Project.id == project_id)
        .values(last_activity_at=func.now(), updated_at=Project.updated_at)
        .execution_options(synchronize_session=False)
    )


def _is(project_id: int, change: RefChange) -> tuple[ColumnElement[bool], ...]:
    return (
        RefUpdate.project_id == project_id,
        RefUpdate.ref == change.ref,
        RefUpdate.old_sha == change.old_sha,
        RefUpdate.new_sha == change.new_sha,
    )


async def _handle(db: AsyncSession, forge: Forge, row: RefUpdate, *, makes_pipelines: bool) -> None:
    change = RefChange(row.ref, row.old_sha, row.new_sha, row.refs_in_push, row.place_in_push)
    options, user_id = tuple(row.push_options), row.user_id
    project = await db.get(Project, row.project_id)
    await db.delete(row)
    if project is None or project.deleted_at is not None:
        return
    user = await db.get(User, user_id) if user_id is not None else None
    if not change.is_tag and change.old_sha == ZERO_SHA and not change.is_deletion:
        await _branch_created(db, forge, project, change.short_ref)
    for follow in forge.on_ref_change:
        await follow(db, forge, project=project, user=user, change=change, push_options=options)
    if change.is_deletion or not makes_pipelines:
        return
    await forge.create_for_push(db, forge, project=project, user=user, change=change, push_options=options)


async def _branch_created(db: AsyncSession, forge: Forge, project: Project, branch: str) -> None:
    """The first branch of a repository becomes its default branch; the default branch gets protected."""
    default = f"refs/heads/{project.default_branch}"
    if branch != project.default_branch:
        if await ref_sha(forge.repositories.git(project.id), default) != ZERO_SHA:
            return
        project.default_branch = branch
        await db.flush()
        await forge.repositories.set_head(project.id, branch)
    await protect_default_branch(db, project.id, branch)


async def start_sweeping(forge: Forge) -> None:
    """A start-up step: sweep once, then keep sweeping beside the requests."""
    await sweep(forge, fresh=timedelta(0))
    forge.spawn(_keep_sweeping(forge), "sweep ref updates")


async def _keep_sweeping(forge: Forge) -> None:
    while True:
        await asyncio.sleep(_SWEEP_EVERY_S)
        for look in (sweep, *forge.on_sweep):
            try:
                await look(forge)
            except Exception:
                log.exception("looking for what was left behind failed")


async def sweep(forge: Forge, fresh: timedelta = _FRESH) -> None:
    """Handle what a crash left behind; forget, after `_LOST`, what never happened."""
    before = datetime.now(UTC) - fresh
    async with forge.database.session() as db:
        statement = select(RefUpdate).where(RefUpdate.created_at <= before).order_by(RefUpdate.id).limit(1000)
        rows = (await db.scalars(statement)).all()
    for position, row in enumerate(rows):
        change = RefChange(row.ref, row.old_sha, row.new_sha)
        if await _has_happened(forge, row, rows[position + 1 :]):
            log.info("handling the change of %s in project %d that was left behind", row.ref, row.project_id)
            await on_refs_changed(forge, row.project_id, [change])
        elif datetime.now(UTC) - row.created_at > _LOST:
            await withdraw(forge, row.project_id, change)


async def _has_happened(forge: Forge, row: RefUpdate, later: Sequence[RefUpdate]) -> bool:
    """Does the ref stand where the row says, or did a later change start from there?"""
    same = [other for other in later if (other.project_id, other.ref) == (row.project_id, row.ref)]
    if any(other.old_sha == row.new_sha for other in same):
        return True
    return await ref_sha(forge.repositories.git(row.project_id), row.ref) == row.new_sha
