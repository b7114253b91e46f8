"""A merge request's own refs in the target project's repository: `refs/merge-requests/<iid>/head` and `/merge`.

Everybody who may fetch the project may fetch them; nobody may push to them. `refs/keep-around/<sha>` keeps the
commits of earlier versions.
"""

from __future__ import annotations

from nautilus_forge.db.models import MergeRequest
from nautilus_forge.forge import Forge
from nautilus_forge.git import merging
from nautilus_forge.git.refs import ref_sha
from nautilus_forge.ports import ZERO_SHA


def head_ref(merge_request: MergeRequest) -> str:
    return f"refs/merge-requests/{merge_request.iid}/head"


def merge_ref(merge_request: MergeRequest) -> str:
    return f"refs/merge-requests/{merge_request.iid}/merge"


async def source_head(forge: Forge, merge_request: MergeRequest) -> str | None:
    """Where the source branch stands now; None where there is no such branch (or project) any more."""
    if merge_request.source_project_id is None:
        return None
    git = forge.repositories.git(merge_request.source_project_id)
    sha = await ref_sha(git, f"refs/heads/{merge_request.source_branch}")
    return sha if sha != ZERO_SHA else None


async def target_head(forge: Forge, merge_request: MergeRequest) -> str | None:
    """Where the target branch stands now; None where there is no such branch."""
    git = forge.repositories.git(merge_request.project_id)
    sha = await ref_sha(git, f"refs/heads/{merge_request.target_branch}")
    return sha if sha != ZERO_SHA else None


async def point_head(forge: Forge, merge_request: MergeRequest, sha: str) -> None:
    """Bring the commit into the target's repository, from a fork too, and point the head ref to it.

    Raises `GitError`.
    """
    git = forge.repositories.git(merge_request.project_id)
    source_id = merge_request.source_project_id
    if source_id is not None and source_id != merge_request.project_id:
        source = forge.repositories.path(source_id)
        await merging.fetch_commit(git, source, sha, head_ref(merge_request))
        return
    await merging.set_refs(git, {head_ref(merge_request): sha})


async def keep(forge: Forge, project_id: int, shas: set[str]) -> None:
    """No housekeeping may remove these commits."""
    git = forge.repositories.git(project_id)
    await merging.set_refs(git, {f"refs/keep-around/{sha}": sha for sha in shas})


async def remove(forge: Forge, project_id: int, iid: int) -> None:
    """The refs of a merge request that is deleted."""
    folder = f"refs/merge-requests/{iid}"
    await merging.delete_refs(forge.repositories.git(project_id), [f"{folder}/head", f"{folder}/merge"])
