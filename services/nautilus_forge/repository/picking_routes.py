"""Cherry-picks and reverts.

Source: doc/api/commits.md ("Cherry-pick a commit", "Revert a commit"), gitlabhq lib/api/commits.rb,
app/services/commits/change_service.rb, app/models/commit.rb (`cherry_pick_message`, `revert_message`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import commits, picking, refs
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit
from nautilus_forge.git.picking import PickRefused
from nautilus_forge.git.writing import Person
from nautilus_forge.params import Field, ParamModel, Params
from nautilus_forge.ports import RefChange
from nautilus_forge.projects.access import ProjectAccess
from nautilus_forge.repository import entities
from nautilus_forge.repository.commits_routes import existing_commit
from nautilus_forge.repository.committing import move_and_follow, require_push
from nautilus_forge.repository.files_routes import Push
from nautilus_forge.repository.reading_routes import Sha
from nautilus_forge.responses import Json

router = APIRouter()


class CherryPick(ParamModel):
    branch: str = Field(min_length=1)
    dry_run: bool = False
    message: str | None = None


class Revert(ParamModel):
    branch: str = Field(min_length=1)
    dry_run: bool = False


@router.post("/projects/{id}/repository/commits/{sha}/cherry_pick")
async def cherry_pick(
    at: Push, db: Db, forge: TheForge, sha: Sha, params: Annotated[CherryPick, Params(CherryPick)]
) -> Response:
    """The commit's change once more, on another branch; `dry_run`: would it fit?"""
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    message = params.message or f"{commit.message.rstrip()}\n\n(cherry picked from commit {commit.sha})"

    async def write(tree: str, head: str) -> str:
        return await picking.write_pick(git, tree, head, commit, message, _person(at))

    return await _changed(
        db, forge, at, git, commit, params.branch, picking.picked_tree, None if params.dry_run else write
    )


@router.post("/projects/{id}/repository/commits/{sha}/revert")
async def revert(
    at: Push, db: Db, forge: TheForge, sha: Sha, params: Annotated[Revert, Params(Revert)]
) -> Response:
    """A new commit that takes the commit's change back; of a merge, what it brought."""
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    message = f'Revert "{commit.title.strip()}"\n\nThis reverts commit {commit.sha}'

    async def write(tree: str, head: str) -> str:
        return await picking.write_revert(git, tree, head, message, _person(at))

    return await _changed(
        db, forge, at, git, commit, params.branch, picking.reverted_tree, None if params.dry_run else write
    )


def _person(at: ProjectAccess) -> Person:
    user = at.who.require_user()
    return Person(user.name, user.email)


async def _changed(
    db: Db,
    forge: Forge,
    at: ProjectAccess,
    git: Git,
    commit: Commit,
    branch: str,
    tree_of: Callable[[Git, Commit, str], Awaitable[str]],
    write: Callable[[str, str], Awaitable[str]] | None,
) -> Response:
    """`write` None: only look whether it fits. Raises `NotFound`, `Forbidden` (protected branch), `BadRequest`."""
    found = await refs.find_branch(git, branch)
    if found is None:
        raise NotFound("Branch")
    await require_push(db, forge, at, branch)
    try:
        tree = await tree_of(git, commit, found.target)
    except PickRefused as refusal:
        raise BadRequest(body=_refusal(tree_of is picking.picked_tree, refusal.reason)) from refusal
    if write is None:
        return Json({"dry_run": "success"})
    sha = await write(tree, found.target)
    change = RefChange(f"refs/heads/{branch}", found.target, sha)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    return Json(entities.commit(forge.settings, at.project, await commits.read_commit(git, sha)), 201)


def _refusal(is_pick: bool, reason: str) -> dict[str, str]:
    action, past = ("cherry-pick", "cherry-picked") if is_pick else ("revert", "reverted")
    return {
        "message": f"Sorry, we cannot {action} this commit automatically. This commit may already have been {past}, "
        "or a more recent commit may have updated some of its content.",
        "error_code": reason,
    }
