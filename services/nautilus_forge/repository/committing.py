"""Commits by the API: the rules of GitLab's `Files::MultiService`, then git, then what follows a push.

Source: gitlabhq app/services/files/multi_service.rb, app/services/commits/create_service.rb,
lib/gitlab/git/index.rb (messages).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import User
from nautilus_forge.errors import BadRequest, Forbidden
from nautilus_forge.forge import Forge
from nautilus_forge.git import refs
from nautilus_forge.git.command import Git
from nautilus_forge.git.merging import delete_refs, fetch_commit
from nautilus_forge.git.revisions import commit_sha
from nautilus_forge.git.trees import last_commit_for_path
from nautilus_forge.git.writing import Action, ActionRefused, Person, write_commit
from nautilus_forge.lfs import locks
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects.access import ProjectAccess
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.projects.branches import can_force_push, can_push, rules_of
from nautilus_forge.repository import updates


@dataclass(frozen=True)
class CommitRequest:
    """`start_…`: revision that a new branch begins at, in another project where `start_project_id` says so.

    `expected`: last known commit of a path, by path.
    """

    branch: str
    message: str
    actions: Sequence[Action]
    start_branch: str | None = None
    start_sha: str | None = None
    start_project_id: int | None = None
    author_name: str | None = None
    author_email: str | None = None
    force: bool = False
    expected: tuple[tuple[str, str], ...] = ()


async def require_push(db: AsyncSession, forge: Forge, at: ProjectAccess, branch: str) -> None:
    """Raises `Forbidden` where the branch's protection stops this user; an empty repository's does not."""
    rules = await rules_of(db, at.project.id)
    if can_push(rules, branch, at.standing.level) or forge.repositories.is_empty(at.project.id):
        return
    raise Forbidden("You are not allowed to push into this branch")


async def create_commit(db: AsyncSession, forge: Forge, at: ProjectAccess, request: CommitRequest) -> str:
    """The new commit's sha; its branch points to it and its pipeline is made when this returns.

    The caller has checked `PUSH_CODE`. Raises `Forbidden` (protected branch), `BadRequest`.
    """
    user = at.who.require_user()
    await require_push(db, forge, at, request.branch)
    if not refs.is_valid_name(request.branch):
        raise BadRequest(message=f"Invalid branch name: {request.branch}")
    git = forge.repositories.git(at.project.id)
    ref = f"refs/heads/{request.branch}"
    old_sha = await refs.ref_sha(git, ref)
    async with _start(forge, git, request) as start:
        new_sha = await _commit(db, forge, at, request, git, old_sha, start)
        await move_and_follow(db, forge, at.project.id, user, RefChange(ref, old_sha, new_sha))
    return new_sha


@asynccontextmanager
async def _start(forge: Forge, git: Git, request: CommitRequest) -> AsyncIterator[str | None]:
    """The revision to begin at; that of another project is fetched, and kept by a ref while the block lasts."""
    named = request.start_sha or request.start_branch
    if request.start_project_id is None:
        yield named
        return
    source = forge.repositories.git(request.start_project_id)
    sha = await commit_sha(source, named or request.branch)
    if sha is None:
        raise BadRequest(message=f"Cannot find start_branch '{named or request.branch}'")
    ref = f"refs/tmp/start-{secrets.token_hex(8)}"
    await fetch_commit(git, source.repository, sha, ref)
    try:
        yield sha
    finally:
        await delete_refs(git, [ref])


async def _commit(
    db: AsyncSession,
    forge: Forge,
    at: ProjectAccess,
    request: CommitRequest,
    git: Git,
    old_sha: str,
    start: str | None,
) -> str:
    parent = await _parent(git, request, old_sha, start)
    if request.force and old_sha != ZERO_SHA and parent != old_sha:
        await _require_force(db, at, request.branch)
    await _require_unchanged(git, request, parent)
    await _require_unlocked(db, at, request)
    return await _write(forge, git, request, parent, at.who.require_user())


async def _parent(git: Git, request: CommitRequest, old_sha: str, start: str | None) -> str | None:
    """The commit to build upon; None for the first commit of a repository. Raises `BadRequest`."""
    is_own = request.start_project_id is None
    if old_sha != ZERO_SHA and is_own and (start is None or request.start_branch == request.branch):
        return old_sha
    if old_sha != ZERO_SHA and not request.force:
        raise BadRequest(
            message=f"A branch called '{request.branch}' already exists. "
            "Switch to that branch in order to make changes"
        )
    if start is None or (is_own and start == request.branch):
        if await refs.list_branches(git):
            raise BadRequest(message="You can only create or edit files when you are on a branch")
        return None
    parent = await commit_sha(git, start)
    if parent is None:
        what = "start_sha" if request.start_sha else "start_branch"
        raise BadRequest(message=f"Cannot find {what} '{start}'")
    return parent


async def _require_force(db: AsyncSession, at: ProjectAccess, branch: str) -> None:
    if not can_force_push(await rules_of(db, at.project.id), branch):
        raise Forbidden("You are not allowed to force push code to a protected branch on this project.")


async def _require_unlocked(db: AsyncSession, at: ProjectAccess, request: CommitRequest) -> None:
    """Raises `BadRequest` where somebody else has locked a file. Source: gitlabhq lib/gitlab/checks/diff_check.rb."""
    if not attribute(at.project, "lfs_enabled"):
        return
    locked = await locks.of_others(db, at.project.id, at.who.require_user().id)
    paths = [path for action in request.actions for path in (action.previous_path, action.path) if path]
    if reason := locks.first_locked(paths, locked):
        raise BadRequest(message=reason)


async def _require_unchanged(git: Git, request: CommitRequest, parent: str | None) -> None:
    """Raises `BadRequest` where a file's last commit is not the one that its editor saw."""
    for path, known in request.expected:
        if parent is not None and await last_commit_for_path(git, parent, path) != known:
            raise BadRequest(
                message=f"The file has changed since you started editing it: {path}"
                if len(request.actions) > 1
                else "You are attempting to update a file that has changed since you started editing it."
            )


async def _write(forge: Forge, git: Git, request: CommitRequest, parent: str | None, user: User) -> str:
    committer = Person(user.name, user.email)
    try:
        return await write_commit(
            git,
            forge.repositories.tmp_dir,
            parent=parent,
            actions=request.actions,
            message=request.message,
            author=Person(request.author_name or user.name, request.author_email or user.email),
            committer=committer,
        )
    except ActionRefused as refusal:
        raise BadRequest(message=str(refusal)) from refusal


async def move_and_follow(
    db: AsyncSession, forge: Forge, project_id: int, user: User | None, change: RefChange
) -> None:
    """Move a branch or tag and do what follows a push. Commits the session's work so far.

    Raises `BadRequest` where somebody else moved the ref first.
    """
    await updates.announce(db, project_id, user.id if user else None, [change])
    await db.commit()
    try:
        await refs.move_ref(forge.repositories.git(project_id), change.ref, change.old_sha, change.new_sha)
    except refs.RefMoved as moved:
        await updates.withdraw(forge, project_id, change)
        raise BadRequest(message=f"Could not update {change.ref}. Please refresh and try again.") from moved
    except BaseException:
        await updates.withdraw(forge, project_id, change)
        raise
    await updates.on_refs_changed(forge, project_id, [change])
