"""Merging: the target branch is moved as by a push, and what follows the move marks the merge request as merged.

1. In one transaction: the checks, the merge commit's sha (`merging_sha`), and the announcement of the move.
2. git moves the branch, if it still stands where it did; else all is done again.
3. `following` marks the merge request as merged in the transaction that handles the move.

A crash between 2 and 3 leaves the announcement, which the sweep of `repository.updates` handles at the next start.

Source: gitlabhq app/services/merge_requests/{merge,post_merge}_service.rb, lib/api/merge_requests.rb.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.errors import Conflict, NotAllowed, Unauthorized, Unprocessable
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.refs import RefMoved, move_ref
from nautilus_forge.git.writing import Person
from nautilus_forge.merge_requests import people, versions
from nautilus_forge.merge_requests.access import find
from nautilus_forge.merge_requests.entities import web_url
from nautilus_forge.merge_requests.mergeability import Mergeability, can_be_merged_by, check
from nautilus_forge.merge_requests.messages import Facts, merge_message
from nautilus_forge.merge_requests.params import Accept
from nautilus_forge.ports import RefChange
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.repository import updates

_TRIES = 30
"""Of so many that are merged into one branch at once, the last one gets through too."""
CANNOT_BE_MERGED = "Branch cannot be merged"
NO_SQUASH = "This project does not allow squashing commits when merge requests are accepted."


async def accept(
    db: AsyncSession, forge: Forge, user: User, merge_request: MergeRequest, params: Accept
) -> MergeRequest:
    """Merges it, or has it merged once its pipeline has succeeded (`auto_merge`). Commits what it does.

    Raises `Unauthorized` (may not move the target branch), `NotAllowed` (closed, draft, no commits, …),
    `Unprocessable` (conflicts, squash), `Conflict` (the source branch is not at `sha`).
    """
    for _ in range(_TRIES):
        merge_request = await find(db, merge_request.project_id, merge_request.iid, lock=True)
        if not await can_be_merged_by(db, user, merge_request):
            raise Unauthorized
        state = await check(db, forge, merge_request)
        waits = params.auto_merge and state.waits_for_pipeline
        _require_mergeable(state, waits=waits)
        _require_sha(merge_request, state, params.sha)
        await _require_no_squash(db, merge_request, params)
        if waits:
            await schedule(db, user, merge_request, params)
            return merge_request
        if await merge_now(db, forge, user, merge_request, state, params):
            return await find(db, merge_request.project_id, merge_request.iid)
    raise Unprocessable(CANNOT_BE_MERGED)


def _require_mergeable(state: Mergeability, *, waits: bool) -> None:
    if waits or state.is_mergeable:
        return
    if state.status in ("conflict", "need_rebase"):
        raise Unprocessable(CANNOT_BE_MERGED)
    raise NotAllowed


def _require_sha(merge_request: MergeRequest, state: Mergeability, sha: str | None) -> None:
    """The head must be the one that the client saw, and the one whose diff and pipeline were looked at."""
    if sha is not None and sha != state.source:
        raise Conflict(f"SHA does not match HEAD of source branch: {state.source}")
    if state.source != merge_request.sha:
        raise Conflict("Branch has been updated since the merge was requested. Please review the changes.")


async def _require_no_squash(db: AsyncSession, merge_request: MergeRequest, params: Accept) -> None:
    """Commits are never squashed here; of one commit alone there is nothing to squash. Raises `Unprocessable`."""
    if not (merge_request.squash if params.squash is None else params.squash):
        return
    version = await versions.latest(db, merge_request.id)
    if version is not None and version.commit_count > 1:
        raise Unprocessable(NO_SQUASH)


async def schedule(
    db: AsyncSession, user: User, merge_request: MergeRequest, params: Accept | None = None
) -> None:
    """Have it merged once its pipeline has succeeded (`automatic`)."""
    params = params or Accept()
    merge_request.merge_user_id = user.id
    merge_request.merge_error = None
    merge_request.auto_merge = {
        "sha": merge_request.sha,
        "commit_message": params.merge_commit_message,
        "should_remove_source_branch": params.should_remove_source_branch,
    }
    if params.should_remove_source_branch is not None:
        merge_request.should_remove_source_branch = params.should_remove_source_branch
    await db.flush()


async def merge_now(
    db: AsyncSession,
    forge: Forge,
    user: User,
    merge_request: MergeRequest,
    state: Mergeability,
    params: Accept,
) -> bool:
    """Moves the target branch; False where somebody else moved it meanwhile. `state` says that it can be merged.

    Commits the session's work. Raises `Unprocessable` where the commits conflict after all, or are to be squashed.
    """
    assert state.source is not None
    assert state.target is not None
    await _require_no_squash(db, merge_request, params)
    new = await _result(db, forge, user, merge_request, state.source, state.target, params)
    merge_request.merging_sha = new
    merge_request.merge_user_id = user.id
    merge_request.merge_error = None
    if params.should_remove_source_branch is not None:
        merge_request.should_remove_source_branch = params.should_remove_source_branch
    await db.flush()
    project_id = merge_request.project_id
    move = RefChange(f"refs/heads/{merge_request.target_branch}", state.target, new)
    await updates.announce(db, project_id, user.id, [move])
    await db.commit()
    try:
        await move_ref(forge.repositories.git(project_id), move.ref, move.old_sha, move.new_sha)
    except RefMoved:
        await updates.withdraw(forge, project_id, move)
        return False
    except BaseException:
        await updates.withdraw(forge, project_id, move)
        raise
    await updates.on_refs_changed(forge, project_id, [move])
    return True


async def _result(
    db: AsyncSession,
    forge: Forge,
    user: User,
    merge_request: MergeRequest,
    source: str,
    target: str,
    params: Accept,
) -> str:
    """Where the target branch goes: to a merge commit, or right to the source's head (`merge_method` ff)."""
    project = await db.get_one(Project, merge_request.project_id)
    if attribute(project, "merge_method") == "ff":
        return source
    git = forge.repositories.git(project.id)
    tree = await merging.merge_tree(git, target, source)
    if tree is None:
        raise Unprocessable(CANNOT_BE_MERGED)
    message = params.merge_commit_message or await default_message(db, forge, project, merge_request, user)
    return await merging.write_merge(git, tree, (target, source), message, Person(user.name, user.email))


async def default_message(
    db: AsyncSession, forge: Forge, project: Project, merge_request: MergeRequest, user: User
) -> str:
    """By the project's `merge_commit_template`, or GitLab's own."""
    cast = await people.cast(db, merge_request)
    version = await versions.latest(db, merge_request.id)
    template = project.attributes.get("merge_commit_template")
    commits = await versions.commits_of(forge, merge_request, version, limit=1000) if template else []
    reference = f"!{merge_request.iid}"
    approvers = cast.of(people.APPROVER)
    facts = Facts(
        source_branch=merge_request.source_branch,
        target_branch=merge_request.target_branch,
        title=merge_request.title,
        description=merge_request.description or "",
        reference=f"{project.path_with_namespace}{reference}",
        local_reference=reference,
        url=web_url(forge.settings, project, merge_request.iid),
        source_project_id=merge_request.source_project_id,
        merged_by=(user.name, user.email),
        approved_by=tuple((approver.name, approver.email) for approver in approvers),
        reviewed_by=tuple(
            (row_user.name, row_user.email)
            for row in cast.rows
            if row.role == people.REVIEWER
            and row.state != "unreviewed"
            and (row_user := cast.user(row.user_id)) is not None
        ),
        commits=commits,
    )
    return merge_message(template, facts)


async def cancel_automatic(db: AsyncSession, merge_request: MergeRequest) -> None:
    """It is merged by nobody's leave any more, unless somebody asks again."""
    merge_request.auto_merge = None
    merge_request.merge_user_id = None
    await db.flush()
