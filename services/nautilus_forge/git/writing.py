"""Commits made without a work tree: a temporary index, blobs, one tree, one commit.

Nothing here moves a ref; a commit that is not reached by one is swept by git's own maintenance.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.git.command import Git
from nautilus_forge.git.revisions import EMPTY_TREE

ZERO_SHA = "0" * 40
COMMIT_FOLDER = "commit-"
"""How the folders for temporary indexes begin."""
REGULAR, EXECUTABLE = "100644", "100755"


@dataclass(frozen=True)
class Person:
    name: str
    email: str

    @property
    def clean_name(self) -> str:
        """Without what git cannot hold in a name; never empty."""
        return _clean(self.name) or "unknown"

    @property
    def clean_email(self) -> str:
        return _clean(self.email)

    def environment(self, role: str) -> dict[str, str]:
        """`role`: AUTHOR or COMMITTER."""
        return {f"GIT_{role}_NAME": self.clean_name, f"GIT_{role}_EMAIL": self.clean_email}


@dataclass(frozen=True)
class Action:
    """One change of a tree. `kind`: create, update, delete, move, chmod. `content` None: as it was."""

    kind: str
    path: str
    previous_path: str | None = None
    content: bytes | None = None
    is_executable: bool | None = None


class ActionRefused(Exception):
    """An action does not fit the tree; the message is GitLab's."""


def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable() and c not in "<>").strip()


async def write_commit(
    git: Git,
    tmp_dir: Path,
    *,
    parent: str | None,
    actions: Sequence[Action],
    message: str,
    author: Person,
    committer: Person,
) -> str:
    """The new commit's name. `parent` None: the first commit. Raises `ActionRefused`, `GitError`."""
    async with _index(git, tmp_dir) as (indexed, folder):
        await indexed.output("read-tree", parent or EMPTY_TREE)
        blobs = await _write_blobs(indexed, folder, actions)
        await _apply(indexed, parent, actions, blobs)
        tree = await indexed.text("write-tree")
    env = author.environment("AUTHOR") | committer.environment("COMMITTER")
    parents = ("-p", parent) if parent else ()
    stdin = message.encode("utf-8", "replace")
    return await git.with_env(env).text("commit-tree", tree, *parents, "-F", "-", stdin=stdin)


@asynccontextmanager
async def _index(git: Git, tmp_dir: Path) -> AsyncIterator[tuple[Git, Path]]:
    folder = tmp_dir / f"{COMMIT_FOLDER}{secrets.token_hex(8)}"
    folder.mkdir(parents=True)
    try:
        yield git.with_env({"GIT_INDEX_FILE": str(folder / "index")}), folder
    finally:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, folder)


async def _write_blobs(git: Git, folder: Path, actions: Sequence[Action]) -> dict[int, str]:
    """Blobs of the contents, by the action's position; all of them by one process."""
    files: dict[int, Path] = {}
    for position, action in enumerate(actions):
        if action.content is not None:
            files[position] = folder / str(position)
            await asyncio.to_thread(files[position].write_bytes, action.content)
    if not files:
        return {}
    stdin = "".join(f"{path}\n" for path in files.values()).encode()
    output = await git.text("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=stdin)
    return dict(zip(files, output.split(), strict=True))


async def _apply(git: Git, parent: str | None, actions: Sequence[Action], blobs: dict[int, str]) -> None:
    """Bring the index to what the actions say, checking each against what the ones before it left."""
    touched = {path for action in actions for path in (action.path, action.previous_path) if path}
    entries = await _entries(git, touched)
    before = dict(entries)
    for position, action in enumerate(actions):
        _one(entries, action, blobs.get(position))
    records = [
        f"{entry[0]} {entry[1]}\t{path}" if entry else f"0 {ZERO_SHA}\t{path}"
        for path in sorted(touched, key=lambda path: entries.get(path) is not None)
        if (entry := entries.get(path)) != before.get(path)
    ]
    if not records:
        return
    stdin = "".join(f"{record}\0" for record in records).encode("utf-8", "surrogateescape")
    await git.output("update-index", "-z", "--index-info", stdin=stdin)
    expected = {path for path in touched if entries.get(path) != before.get(path)}
    await _require_changed(git, parent, expected)


async def _require_changed(git: Git, parent: str | None, expected: set[str]) -> None:
    """`update-index` skips paths that it dislikes and drops files that stand in a path's way, both silently:
    so the changes must be exactly those that were asked for.
    """
    output = await git.output(
        "diff-index", "--cached", "--no-renames", "--name-only", "-z", parent or EMPTY_TREE
    )
    changed = {path.decode("utf-8", "surrogateescape") for path in output.split(b"\0") if path}
    if changed - expected:
        raise ActionRefused("A file with this name already exists")
    if expected - changed:
        raise ActionRefused("invalid path")


async def _entries(git: Git, paths: set[str]) -> dict[str, tuple[str, str]]:
    """(mode, blob) of those of the paths that the index has."""
    if not paths:
        return {}
    output = await git.output("--literal-pathspecs", "ls-files", "-s", "-z", "--", *sorted(paths))
    found = {}
    for record in output.split(b"\0"):
        if record:
            head, _, name = record.partition(b"\t")
            mode, sha, _stage = head.decode("ascii").split()
            found[name.decode("utf-8", "surrogateescape")] = (mode, sha)
    return {path: found[path] for path in paths if path in found}


def _one(entries: dict[str, tuple[str, str]], action: Action, blob: str | None) -> None:
    source = action.previous_path if action.kind == "move" else action.path
    if action.kind == "create":
        if action.path in entries:
            raise ActionRefused("A file with this name already exists")
        entries[action.path] = (EXECUTABLE if action.is_executable else REGULAR, blob or "")
        return
    if source is None or source not in entries:
        raise ActionRefused("A file with this name doesn't exist")
    mode, sha = entries[source]
    if action.is_executable is not None and mode in (REGULAR, EXECUTABLE):
        mode = EXECUTABLE if action.is_executable else REGULAR
    if action.kind == "delete":
        del entries[source]
        return
    if action.kind == "move":
        if action.path in entries and action.path != source:
            raise ActionRefused("A file with this name already exists")
        del entries[source]
    entries[action.path] = (mode, blob or sha)
