"""Commits of many jobs at once, remembered: a commit never changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit, read_commits

_REMEMBERED = 256


class CommitCache:
    """By project and sha, the least recently used ones forgotten."""

    def __init__(self) -> None:
        self._commits: OrderedDict[tuple[int, str], Commit] = OrderedDict()

    async def of(self, git: Git, project_id: int, shas: Iterable[str]) -> dict[str, Commit]:
        """Commits by sha; those that the repository no longer has are left out."""
        wanted = set(shas)
        missing = [sha for sha in sorted(wanted) if (project_id, sha) not in self._commits]
        if missing:
            for commit in await _read(git, missing):
                self._commits[(project_id, commit.sha)] = commit
        found = {
            sha: self._commits[(project_id, sha)] for sha in wanted if (project_id, sha) in self._commits
        }
        for sha in found:
            self._commits.move_to_end((project_id, sha))
        while len(self._commits) > _REMEMBERED:
            self._commits.popitem(last=False)
        return found


async def _read(git: Git, shas: list[str]) -> list[Commit]:
    try:
        return await read_commits(git, "--no-walk=unsorted", "--ignore-missing", *shas)
    except GitError:
        return []
