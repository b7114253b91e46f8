"""Keeping repositories compact beside the requests: one at a time, behind everything else that wants the machine.

What there is to do is counted in the folders, without starting git. Nothing here stops a push: git's packing takes
no lock that a push waits for, and objects that nothing reaches live on for two weeks.

Source: gitaly internal/git/housekeeping (thresholds, geometric repacking), git-repack(1), git-gc(1).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git

log = logging.getLogger(__name__)

_LONGEST_S = 1800.0
_NOT_BEFORE_S = 600.0
_ABANDONED_S = 86_400.0
"""After a day a temporary file belongs to no git that still runs."""
_SAMPLED = 256
"""Folders of loose objects; one is counted and stands for all."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Clutter:
    """What lies about in a repository. `loose`: about so many loose objects. `refs`: files of loose refs, at most
    counted to the threshold. `whole_age_s`: since all of it was packed anew.
    """

    loose: int = 0
    packs: int = 0
    refs: int = 0
    has_commit_graph: bool = False
    whole_age_s: float = 0


MANY = Clutter(loose=2000, packs=20, refs=500, whole_age_s=14 * 86_400)
"""From so many on there is something to do."""
_STAMP = "packed-at"
"""The file of a repository whose time says when all of it was last packed anew."""

_THREADS = ("-c", "pack.threads=1", "-c", "gc.pruneExpire=2.weeks.ago")
_REPACK: Command = (
    *_THREADS,
    *("repack", "--quiet", "-d", "-l", "--geometric=2", "--write-midx", "--write-bitmap-index"),
)
_GRAPH: Command = ("commit-graph", "write", "--reachable", "--split", "--changed-paths", "--no-progress")
_PACK_REFS: Command = ("pack-refs", "--all", "--prune")
_ALL = (*_THREADS, "-c", "repack.writeBitmaps=true", "-c", "gc.writeCommitGraph=true")


def plan(found: Clutter) -> list[Command]:
    """The git commands that are due, in their order; none for a tidy repository.

    New objects are packed with those packs that are small beside them; now and then everything is, which alone
    removes what nothing reaches.
    """
    commands: list[Command] = []
    if found.loose >= MANY.loose or found.packs >= MANY.packs:
        if found.whole_age_s >= MANY.whole_age_s:
            return whole(prune=True)
        commands.append(_REPACK)
    if found.refs >= MANY.refs:
        commands.append(_PACK_REFS)
    if commands or (found.packs and not found.has_commit_graph):
        commands.append(_GRAPH)
    return commands


def whole(*, prune: bool) -> list[Command]:
    """Everything into one pack, with bitmap and commit graph."""
    expiry = "--prune=2.weeks.ago" if prune else "--no-prune"
    return [(*_ALL, "gc", "--quiet", "--cruft", expiry)]


def look(repository: Path) -> Clutter:
    """Counts, by the folders alone. Blocks: call it in a thread."""
    objects = repository / "objects"
    return Clutter(
        loose=len(_names(objects / "17")) * _SAMPLED,
        packs=sum(name.endswith(".pack") for name in _names(objects / "pack")),
        refs=_count_files(repository / "refs", MANY.refs),
        has_commit_graph=(objects / "info" / "commit-graphs").is_dir()
        or (objects / "info" / "commit-graph").is_file(),
        whole_age_s=_age_s(repository / _STAMP),
    )


def _age_s(stamp: Path) -> float:
    """Since the file was written; a repository that has none begins to count now."""
    try:
        return time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        stamp.touch()
        return 0


def clear_abandoned(repository: Path, now: float | None = None) -> None:
    """Removes what pushes and packings that were killed left behind: temporary packs and quarantine folders."""
    before = (time.time() if now is None else now) - _ABANDONED_S
    objects = repository / "objects"
    left = [*objects.glob("tmp_objdir-*"), *objects.glob("pack/tmp_*"), *objects.glob("pack/.tmp-*")]
    for path in left:
        try:
            if path.lstat().st_mtime < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            log.warning("what was left behind at %s stays: %s", path, error)


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def _count_files(folder: Path, most: int) -> int:
    count = 0
    for path in folder.rglob("*"):
        count += path.is_file()
        if count >= most:
            break
    return count


class Maintenance:
    """Decides how often to look; `plan` decides whether there is something to do."""

    def __init__(self) -> None:
        self._looked_at: dict[int, float] = {}
        self._asked_for: set[int] = set()
        self._one_at_a_time = asyncio.Lock()

    def is_due(self, project_id: int) -> bool:
        """At most every ten minutes for each project; notes that it was due."""
        now = time.monotonic()
        if now - self._looked_at.get(project_id, -_NOT_BEFORE_S) < _NOT_BEFORE_S:
            return False
        self._looked_at = {key: at for key, at in self._looked_at.items() if now - at < _NOT_BEFORE_S}
        self._looked_at[project_id] = now
        return True

    async def run(self, git: Git) -> None:
        """What is due after pushes."""
        async with self._one_at_a_time:
            await asyncio.to_thread(clear_abandoned, git.repository)
            await _do(git, plan(await asyncio.to_thread(look, git.repository)))

    def ask(self, project_id: int) -> bool:
        """Somebody wants the repository packed now; False where that is under way. `pack` must follow."""
        if project_id in self._asked_for:
            return False
        self._asked_for.add(project_id)
        return True

    async def pack(self, project_id: int, git: Git, *, prune: bool) -> None:
        """Everything into one pack, asked for by `ask`. `prune`: what nothing reaches for two weeks goes."""
        try:
            async with self._one_at_a_time:
                await _do(git, whole(prune=prune))
        finally:
            self._asked_for.discard(project_id)


async def _do(git: Git, commands: list[Command]) -> None:
    """One after the other, with the lowest priority; a failure ends it until the next time."""
    patient = Git(git.repository, _LONGEST_S, is_background=True)
    for command in commands:
        try:
            await patient.output(*command)
        except GitError as error:
            log.warning("housekeeping of %s: %s", git.repository, error)
            return
        if "gc" in command:
            await asyncio.to_thread((git.repository / _STAMP).touch)
