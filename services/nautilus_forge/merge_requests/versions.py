"""Versions of a merge request's diff: one for each state of the source branch that was seen.

Source: gitlabhq app/models/merge_request_diff.rb, app/services/merge_requests/reload_diffs_service.rb.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import MergeRequest, MergeRequestVersion
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.commits import Commit, count_commits, read_commits
from nautilus_forge.git.diffs import FileDiff, read_diff
from nautilus_forge.git.refs import is_ancestor, merge_base
from nautilus_forge.lfs.forks import give_to_target
from nautilus_forge.merge_requests import refs

_HEADS = "refs/merge-requests/"
_MOST_LOOKED_AT = 200
MOST_FILES = 3000
"""GitLab's `diff_max_files`: more are counted as "3000+"."""


async def record(db: AsyncSession, forge: Forge, merge_request: MergeRequest) -> MergeRequestVersion:
    """Compare `merge_request.sha` with the target branch, and keep what came out as the newest version.

    The head ref is set, so that the commits are in the target's repository. Raises `GitError`.
    """
    start = await refs.target_head(forge, merge_request)
    version = MergeRequestVersion(merge_request_id=merge_request.id)
    if merge_request.sha is not None:
        await refs.point_head(forge, merge_request, merge_request.sha)
        if start is not None:
            await _compare(forge, merge_request, merge_request.sha, start, version)
            await _bring_lfs_objects(db, forge, merge_request, version)
    db.add(version)
    await db.flush()
    return version


async def _compare(
    forge: Forge, merge_request: MergeRequest, head: str, start: str, version: MergeRequestVersion
) -> None:
    git = forge.repositories.git(merge_request.project_id)
    base = await merge_base(git, start, head)
    version.head_sha, version.start_sha, version.base_sha = head, start, base
    if base is None:
        return
    version.commit_count = await count_commits(git, head, f"^{base}")
    if version.commit_count:
        count = await merging.file_count(git, base, head)
        version.file_count = str(count) if count <= MOST_FILES else f"{MOST_FILES}+"
        version.patch_id = await merging.patch_id(git, base, head)
    await refs.keep(forge, merge_request.project_id, {head, base})


async def _bring_lfs_objects(
    db: AsyncSession, forge: Forge, merge_request: MergeRequest, version: MergeRequestVersion
) -> None:
    """What a fork's commits point to, the target has too from now on."""
    source_id, target_id = merge_request.source_project_id, merge_request.project_id
    if source_id in (None, target_id) or version.base_sha is None or not version.commit_count:
        return
    assert source_id is not None
    assert version.head_sha is not None
    git = forge.repositories.git(target_id)
    await give_to_target(db, git, source_id, target_id, version.base_sha, version.head_sha)


async def latest(db: AsyncSession, merge_request_id: int) -> MergeRequestVersion | None:
    """The newest version; each merge request has one from the moment that it is made."""
    return await db.scalar(
        select(MergeRequestVersion)
        .where(MergeRequestVersion.merge_request_id == merge_request_id)
        .order_by(MergeRequestVersion.id.desc())
        .limit(1)
    )


async def diff_of(
    forge: Forge, merge_request: MergeRequest, version: MergeRequestVersion | None
) -> list[FileDiff]:
    """The files that a version changes."""
    if version is None or version.head_sha is None or version.base_sha is None or not version.commit_count:
        return []
    git = forge.repositories.git(merge_request.project_id)
    return await read_diff(git, version.base_sha, version.head_sha)


async def commits_of(
    forge: Forge,
    merge_request: MergeRequest,
    version: MergeRequestVersion | None,
    *,
    limit: int | None = None,
    offset: int = 0,
) -> list[Commit]:
    """The commits of a version, newest first."""
    if version is None or version.head_sha is None or version.base_sha is None or not version.commit_count:
        return []
    git = forge.repositories.git(merge_request.project_id)
    options = [f"--skip={offset}", *([f"--max-count={limit}"] if limit is not None else [])]
    return await read_commits(git, *options, version.head_sha, f"^{version.base_sha}")


async def bringing(db: AsyncSession, forge: Forge, project_id: int, sha: str) -> list[int]:
    """The `iid`s of merge requests of the project whose newest version has the commit, the newest ones first.

    Of a commit that very many of their heads have (an old one of the target's), only the newest are looked at.
    """
    git = forge.repositories.git(project_id)
    output = await git.text("for-each-ref", f"--contains={sha}", "--format=%(refname)", _HEADS)
    iids = sorted(
        (int(name.split("/")[2]) for name in output.split() if name.endswith("/head")), reverse=True
    )
    bases = await _bases(db, project_id, iids[:_MOST_LOOKED_AT])
    known = {base: await is_ancestor(git, sha, base) for base in set(bases.values())}
    return [iid for iid, base in bases.items() if not known[base]]


async def _bases(db: AsyncSession, project_id: int, iids: list[int]) -> dict[int, str]:
    """The merge base of each one's newest version."""
    if not iids:
        return {}
    newest = (
        select(func.max(MergeRequestVersion.id))
        .join(MergeRequest, MergeRequest.id == MergeRequestVersion.merge_request_id)
        .where(MergeRequest.project_id == project_id, MergeRequest.iid.in_(iids))
        .group_by(MergeRequest.id)
    )
    rows = await db.execute(
        select(MergeRequest.iid, MergeRequestVersion.base_sha)
        .join(MergeRequestVersion, MergeRequestVersion.merge_request_id == MergeRequest.id)
        .where(MergeRequestVersion.id.in_(newest))
        .order_by(MergeRequest.iid.desc())
    )
    return {iid: base for iid, base in rows if base is not None}
