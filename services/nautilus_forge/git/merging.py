"""Merging without a work tree: does it fit, the tree and the commit of it; and fetching between repositories.

Nothing here moves a branch.
"""

from __future__ import annotations

from pathlib import Path

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.git.revisions import is_sha
from nautilus_forge.git.writing import Person


async def merge_tree(git: Git, ours: str, theirs: str) -> str | None:
    """The tree of `theirs` merged into `ours`; None where they conflict or have no history in common.

    Source: git-merge-tree(1) (`--write-tree`, git 2.38 and later). Raises `GitError`.
    """
    result = await git.run("merge-tree", "--write-tree", "--no-messages", "--name-only", ours, theirs)
    tree = result.stdout.split(b"\n", 1)[0].decode("ascii", "replace").strip("\0")
    if result.returncode == 0 and is_sha(tree):
        return tree
    if result.returncode == 1 or "unrelated histories" in result.stderr:
        return None
    raise GitError("merge-tree", returncode=result.returncode, stderr=result.stderr)


async def write_merge(git: Git, tree: str, parents: tuple[str, str], message: str, author: Person) -> str:
    """The merge commit, by `author`; no ref points to it yet. Raises `GitError`."""
    env = author.environment("AUTHOR") | author.environment("COMMITTER")
    first, second = parents
    stdin = message.encode("utf-8", "replace")
    return await git.with_env(env).text(
        "commit-tree", tree, "-p", first, "-p", second, "-F", "-", stdin=stdin
    )


async def fetch_commit(git: Git, source: Path, sha: str, ref: str) -> None:
    """Copy a commit, and what it is made of, from the repository at `source`, and point `ref` to it.

    Raises `GitError`.
    """
    uploading = "git -c safe.directory=* upload-pack"
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", f"--upload-pack={uploading}")
    await git.output("fetch", *options, "--", source.as_posix(), f"+{sha}:{ref}")


async def set_refs(git: Git, targets: dict[str, str]) -> None:
    """Point each ref to its commit, wherever it stood. Raises `GitError`."""
    if not targets:
        return
    stdin = "".join(f"update {name}\0{sha}\0\0" for name, sha in targets.items())
    await git.output("update-ref", "-z", "--stdin", stdin=stdin.encode("utf-8", "surrogateescape"))


async def delete_refs(git: Git, names: list[str]) -> None:
    """Delete those of the refs that there are. Raises `GitError`."""
    stdin = "".join(f"delete {name}\0\0" for name in names)
    await git.output("update-ref", "-z", "--stdin", stdin=stdin.encode("utf-8", "surrogateescape"))


async def has_commit(git: Git, sha: str) -> bool:
    """Is the commit in this repository?"""
    return (await git.run("cat-file", "-e", f"{sha}^{{commit}}")).returncode == 0


async def merge_commit_of(git: Git, sha: str, since: str, until: str) -> str | None:
    """The merge commit by which the branch got the commit; None where it came without one (a fast-forward)."""
    options = ("--first-parent", "--ancestry-path", "--parents", "--reverse", "--max-count=10000")
    output = await git.text("rev-list", *options, until, f"^{sha}", f"^{since}")
    first = output.split("\n", 1)[0].split()
    return first[0] if len(first) > 2 else None


async def file_count(git: Git, base: str, head: str) -> int:
    """How many files differ, renames counted once."""
    output = await git.output("diff-tree", "-r", "-M", "--name-only", "-z", base, head)
    return output.count(b"\0")


async def patch_id(git: Git, base: str, head: str) -> str | None:
    """What stays the same when the same change is made elsewhere (git-patch-id); None for no change."""
    patch = await git.head(16 << 20, "diff-tree", "-r", "-p", "--no-ext-diff", "--no-textconv", base, head)
    output = await git.text("patch-id", "--stable", stdin=patch)
    return output.split(" ", 1)[0] or None
