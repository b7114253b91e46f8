"""Cherry-picks and reverts without a work tree, by merging with the right base.

`git merge-tree` finds the base itself, so it is given two helper commits whose only common ancestor is that base.
Nothing here moves a branch.
"""

from __future__ import annotations

from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit
from nautilus_forge.git.merging import merge_tree
from nautilus_forge.git.revisions import EMPTY_TREE
from nautilus_forge.git.writing import Person

_HELPER = Person("helper", "helper@localhost")


class PickRefused(Exception):
    """`reason`: conflict, or empty (nothing would change)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def picked_tree(git: Git, commit: Commit, onto: str) -> str:
    """The tree of `onto` with what the commit changed (against its first parent). Raises `PickRefused`, `GitError`."""
    base = await _base(git, commit)
    return await _applied(git, base, f"{commit.sha}^{{tree}}", onto)


async def reverted_tree(git: Git, commit: Commit, onto: str) -> str:
    """The tree of `onto` without what the commit changed. Raises `PickRefused`, `GitError`."""
    before = f"{commit.parents[0]}^{{tree}}" if commit.parents else EMPTY_TREE
    return await _applied(git, commit.sha, before, onto)


async def _base(git: Git, commit: Commit) -> str:
    return commit.parents[0] if commit.parents else await _commit(git, EMPTY_TREE, None)


async def _applied(git: Git, base: str, wanted_tree: str, onto: str) -> str:
    """Merge `wanted_tree` into the tree of `onto`, as if both had come from `base`."""
    ours = await _commit(git, f"{onto}^{{tree}}", base)
    theirs = await _commit(git, wanted_tree, base)
    tree = await merge_tree(git, ours, theirs)
    if tree is None:
        raise PickRefused("conflict")
    if tree == await git.text("rev-parse", f"{onto}^{{tree}}"):
        raise PickRefused("empty")
    return tree


async def _commit(git: Git, tree: str, parent: str | None) -> str:
    env = _HELPER.environment("AUTHOR") | _HELPER.environment("COMMITTER")
    env |= {"GIT_AUTHOR_DATE": "@0 +0000", "GIT_COMMITTER_DATE": "@0 +0000"}
    parents = ("-p", parent) if parent is not None else ()
    sha = await git.text("rev-parse", tree)
    return await git.with_env(env).text("commit-tree", sha, *parents, "-F", "-", stdin=b"helper")


async def write_pick(git: Git, tree: str, parent: str, original: Commit, message: str, by: Person) -> str:
    """The cherry-pick's commit: the original's author and date, committed by `by`."""
    author = Person(original.author_name, original.author_email)
    env = author.environment("AUTHOR") | by.environment("COMMITTER")
    env["GIT_AUTHOR_DATE"] = original.authored_date.replace(".000", "")
    return await _written(git.with_env(env), tree, parent, message)


async def write_revert(git: Git, tree: str, parent: str, message: str, by: Person) -> str:
    return await _written(
        git.with_env(by.environment("AUTHOR") | by.environment("COMMITTER")), tree, parent, message
    )


async def _written(git: Git, tree: str, parent: str, message: str) -> str:
    stdin = message.encode("utf-8", "replace")
    return await git.text("commit-tree", tree, "-p", parent, "-F", "-", stdin=stdin)
