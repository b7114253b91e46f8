"""What a push means to merge requests: new versions and pipelines, merged ones, closed ones.

Runs in the transaction that handles the moved branch (`ports.FollowRefChange`).

Source: gitlabhq app/services/merge_requests/refresh_service.rb, post_merge_service.rb, retarget_chain_service.rb.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.errors import ForgeError, GitError
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.command import Git
from nautilus_forge.merge_requests import push_options as options
from nautilus_forge.merge_requests import refs, service, versions
from nautilus_forge.merge_requests.telling import tell
from nautilus_forge.ports import BY_JOB, ZERO_SHA, RefChange
from nautilus_forge.projects import branches
from nautilus_forge.projects.access import level_of
from nautilus_forge.repository.committing import move_and_follow

log = logging.getLogger(__name__)

_MOST_COMMITS = 100_000
_MOST_RETARGETED = 4
"""So many merge requests into a branch follow it, when it is merged and deleted. Source: retarget_chain_service.rb."""


@dataclass(frozen=True)
class Move:
    """A branch that has moved. `makes_pipelines`: not where a job's token pushed (it could go on for ever)."""

    project: Project
    user: User | None
    change: RefChange
    makes_pipelines: bool = True

    @property
    def branch(self) -> str:
        return self.change.short_ref


async def follow(
    db: AsyncSession,
    forge: Forge,
    *,
    project: Project,
    user: User | None,
    change: RefChange,
    push_options: Sequence[str] = (),
) -> None:
    """Implements `ports.FollowRefChange`. What git refuses is logged: the push stands."""
    if not change.ref.startswith("refs/heads/"):
        return
    by_job = BY_JOB in push_options
    move = Move(project, user, change, makes_pipelines=not by_job)
    for handle in (_mark_merged, _close, _refresh):
        try:
            async with db.begin_nested():
                await handle(db, forge, move)
        except GitError as error:
            log.error("merge requests of %s in project %d: %s", change.ref, project.id, error)
    if user is not None and not change.is_deletion and not by_job and options.are_given(push_options):
        await options.carry_out(db, forge, project, user, change, push_options)


async def _opened(db: AsyncSession, *conditions: ColumnElement[bool]) -> Sequence[MergeRequest]:
    """Open merge requests, locked."""
    statement = select(MergeRequest).where(MergeRequest.state == "opened", *conditions)
    locked = statement.order_by(MergeRequest.id).with_for_update(key_share=True)
    return (await db.scalars(locked.execution_options(populate_existing=True))).all()


async def _mark_merged(db: AsyncSession, forge: Forge, move: Move) -> None:
    """Those whose head the branch has got by this move; by whichever way it came."""
    change = move.change
    if change.is_deletion or change.old_sha == ZERO_SHA:
        return
    aimed = await _opened(
        db, MergeRequest.project_id == move.project.id, MergeRequest.target_branch == move.branch
    )
    if not aimed:
        return
    git = forge.repositories.git(move.project.id)
    arrived = await _arrived(git, change)
    for merge_request in aimed:
        if merge_request.merging_sha == change.new_sha or merge_request.sha in arrived:
            await _merged(db, forge, git, merge_request, move.user, change)


async def _arrived(git: Git, change: RefChange) -> frozenset[str]:
    """The commits that the branch did not have before."""
    text = await git.text("rev-list", f"--max-count={_MOST_COMMITS}", change.new_sha, f"^{change.old_sha}")
    return frozenset(text.split("\n"))


async def _merged(
    db: AsyncSession,
    forge: Forge,
    git: Git,
    merge_request: MergeRequest,
    user: User | None,
    change: RefChange,
) -> None:
    is_ours = merge_request.merging_sha == change.new_sha
    merge_request.state = "merged"
    merge_request.merged_at = datetime.now(UTC)
    if not is_ours:
        merge_request.merge_user_id = user.id if user is not None else None
    merge_request.merge_commit_sha = await _merge_commit(git, merge_request, change, is_ours=is_ours)
    merge_request.merging_sha = merge_request.auto_merge = merge_request.merge_error = None
    merge_request.closed_at = merge_request.closed_by_id = None
    await db.flush()
    await tell(db, forge, merge_request, user, "merge")
    if is_ours and wants_removal(merge_request):
        merge_request_id = merge_request.id

        async def remove() -> None:
            await remove_source_branch(forge, merge_request_id)

        after_commit(db, remove)


async def _merge_commit(
    git: Git, merge_request: MergeRequest, change: RefChange, *, is_ours: bool
) -> str | None:
    """The commit with both as parents; None for a fast-forward."""
    if is_ours:
        return change.new_sha if change.new_sha != merge_request.sha else None
    return await merging.merge_commit_of(git, merge_request.sha or "", change.old_sha, change.new_sha)


def wants_removal(merge_request: MergeRequest) -> bool:
    """What was said when it was merged wins over what its author said."""
    said = merge_request.should_remove_source_branch
    return bool(merge_request.force_remove_source_branch if said is None else said)


async def remove_source_branch(forge: Forge, merge_request_id: int) -> None:
    """Deletes the branch of a merged one, where that may be: not a default or protected one, and not one that has
    moved on. Merge requests into it go to where it went.
    """
    async with forge.database.unit_of_work() as db:
        merge_request = await db.get(MergeRequest, merge_request_id)
        if merge_request is None or merge_request.state != "merged" or merge_request.sha is None:
            return
        project = await db.get(Project, merge_request.source_project_id or 0)
        user = await db.get(User, merge_request.merge_user_id or 0)
        if project is None or user is None or not await _may_remove(db, project, user, merge_request):
            return
        if await refs.source_head(forge, merge_request) != merge_request.sha:
            return
        if project.id == merge_request.project_id:
            await _retarget_chain(db, forge, merge_request)
        change = RefChange(f"refs/heads/{merge_request.source_branch}", merge_request.sha, ZERO_SHA)
        try:
            await move_and_follow(db, forge, project.id, user, change)
        except ForgeError as error:
            log.warning("branch %s of project %d stays: %s", merge_request.source_branch, project.id, error)


async def _may_remove(db: AsyncSession, project: Project, user: User, merge_request: MergeRequest) -> bool:
    branch = merge_request.source_branch
    if project.is_archived or branch == project.default_branch:
        return False
    rules = await branches.rules_of(db, project.id)
    if branches.is_protected(rules, branch):
        return False
    return branches.can_push(rules, branch, await level_of(db, user, project))


async def _retarget_chain(db: AsyncSession, forge: Forge, merged: MergeRequest) -> None:
    chained = await _opened(
        db, MergeRequest.project_id == merged.project_id, MergeRequest.target_branch == merged.source_branch
    )
    for merge_request in chained[:_MOST_RETARGETED]:
        try:
            await service.retarget(db, forge, merge_request, merged.target_branch)
        except ForgeError as error:
            log.info("merge request %d keeps its target: %s", merge_request.id, error)


async def _close(db: AsyncSession, forge: Forge, move: Move) -> None:
    """Where the source branch is gone."""
    if move.change.is_deletion:
        for merge_request in await _of_source(db, move):
            await service.close(db, forge, merge_request, move.user)


async def _refresh(db: AsyncSession, forge: Forge, move: Move) -> None:
    """Where the source branch has new commits."""
    if not move.change.is_deletion:
        for merge_request in await _of_source(db, move):
            sha, makes_pipelines = move.change.new_sha, move.makes_pipelines
            await take_head(db, forge, merge_request, move.user, sha, makes_pipelines=makes_pipelines)


async def _of_source(db: AsyncSession, move: Move) -> Sequence[MergeRequest]:
    return await _opened(
        db, MergeRequest.source_project_id == move.project.id, MergeRequest.source_branch == move.branch
    )


async def take_head(
    db: AsyncSession,
    forge: Forge,
    merge_request: MergeRequest,
    user: User | None,
    sha: str,
    *,
    makes_pipelines: bool = True,
) -> None:
    """A new version, a new pipeline; nobody's leave to merge the old one counts any more."""
    if merge_request.sha == sha:
        return
    old_sha, merge_request.sha = merge_request.sha, sha
    if merge_request.auto_merge is not None:
        merge_request.auto_merge = merge_request.merge_user_id = None
    merge_request.merging_sha = merge_request.merge_error = None
    merge_request.updated_at = datetime.now(UTC)
    await db.flush()
    await versions.record(db, forge, merge_request)
    if user is not None and makes_pipelines:
        await forge.create_for_merge_request(
            db, forge, merge_request=merge_request, user=user, is_asked=False
        )
    await tell(db, forge, merge_request, user, "update", old_sha=old_sha)


def catch_up_later(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> None:
    """A push that was handled while this transaction made or reopened the merge request did not see it."""
    merge_request_id = merge_request.id

    async def catch_up() -> None:
        async with forge.database.unit_of_work() as session:
            for found in await _opened(session, MergeRequest.id == merge_request_id):
                head = await refs.source_head(forge, found)
                author = await session.get(User, found.author_id or 0)
                if head is not None and head != found.sha:
                    await take_head(session, forge, found, author, head)

    after_commit(db, catch_up)
