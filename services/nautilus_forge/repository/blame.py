"""Who wrote which lines of a file.

Source: git-blame(1) (`--porcelain`), gitlabhq lib/api/entities/{blame_range,blame_range_commit}.rb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit, read_commits

_LONGEST_OUTPUT_BYTES = 64 << 20


@dataclass
class BlameRange:
    """Lines that follow one another and came with the same commit."""

    sha: str
    lines: list[str] = field(default_factory=list)


async def blame(git: Git, commit: str, path: str, first: int | None, last: int | None) -> list[BlameRange]:
    """The file's ranges in order; `first`, `last`: lines counted from 1. Raises `GitError`."""
    span = (f"-L{first},{last}",) if first is not None and last is not None else ()
    output = await git.head(
        _LONGEST_OUTPUT_BYTES, "--literal-pathspecs", "blame", "--porcelain", *span, commit, "--", path
    )
    return list(_ranges(output.decode("utf-8", "replace")))


def _ranges(text: str) -> Iterator[BlameRange]:
    current: BlameRange | None = None
    sha = ""
    for line in text.split("\n"):
        if line.startswith("\t"):
            if current is None or current.sha != sha:
                if current is not None:
                    yield current
                current = BlameRange(sha)
            current.lines.append(line[1:])
        elif len(line) > 40 and line[40] == " " and all(c in "0123456789abcdef" for c in line[:40]):
            sha = line[:40]
    if current is not None:
        yield current


async def commits_of(git: Git, ranges: list[BlameRange]) -> dict[str, Commit]:
    """The ranges' commits by sha, read by one process."""
    shas = list(dict.fromkeys(found.sha for found in ranges))
    if not shas:
        return {}
    return {commit.sha: commit for commit in await read_commits(git, "--no-walk=unsorted", *shas)}


def entity(found: BlameRange, commit: Commit) -> dict[str, Any]:
    return {
        "commit": {
            "id": commit.sha,
            "parent_ids": list(commit.parents),
            "message": commit.message,
            "authored_date": commit.authored_date,
            "author_name": commit.author_name,
            "author_email": commit.author_email,
            "committed_date": commit.committed_date,
            "committer_name": commit.committer_name,
            "committer_email": commit.committer_email,
        },
        "lines": found.lines,
    }
