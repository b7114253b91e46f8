"""Commits as values, read by `git log`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nautilus_forge.git.command import Git
from nautilus_forge.git.revisions import EMPTY_TREE

_FIELDS = ("%H", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%(trailers:only,unfold)", "%B")
LOG_FORMAT = "--format=" + "%x00".join(_FIELDS)
_LONGEST_TITLE = 100
MOST_COUNTED = 2000


@dataclass(frozen=True)
class Commit:
    """Dates are ISO 8601 with the offset of the one who committed."""

    sha: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    authored_date: str
    committer_name: str
    committer_email: str
    committed_date: str
    trailers: tuple[tuple[str, str], ...]
    message: str

    @property
    def title(self) -> str:
        """The first line; cut to 80 characters where it is longer than 100, as in GitLab."""
        first = self.message.split("\n", 1)[0].rstrip("\r")
        if not first.strip():
            return "--no commit message"
        return first if len(first) <= _LONGEST_TITLE else first[:80] + "..."


@dataclass(frozen=True)
class Stats:
    additions: int
    deletions: int

    @property
    def total(self) -> int:
        return self.additions + self.deletions


async def read_commits(git: Git, *options: str, paths: Sequence[str] = ()) -> list[Commit]:
    """What `git log` lists for these options (trusted, revisions already resolved); paths are literal."""
    tail = ("--", *paths)
    output = await git.output("--literal-pathspecs", "log", "-z", LOG_FORMAT, *options, *tail)
    return list(parse_log(output))


async def read_commit(git: Git, sha: str) -> Commit:
    """One commit by its full name. Raises `GitError` where there is none."""
    return (await read_commits(git, "--max-count=1", sha))[0]


async def count_commits(git: Git, *options: str, paths: Sequence[str] = ()) -> int:
    """How many `git rev-list` would list."""
    return int(await git.text("--literal-pathspecs", "rev-list", "--count", *options, "--", *paths))


def parse_log(output: bytes) -> Iterator[Commit]:
    """Commits of `git log -z` with `LOG_FORMAT`: as many NUL-separated fields each as `_FIELDS` has."""
    fields = output.decode("utf-8", "replace").split("\0")
    width = len(_FIELDS)
    for start in range(0, len(fields) - width + 1, width):
        yield commit_of(fields[start : start + width])


def commit_of(fields: Sequence[str]) -> Commit:
    sha, parents, an, ae, ad, cn, ce, cd, trailers, message = fields
    return Commit(
        sha=sha.strip("\n"),
        parents=tuple(parents.split()),
        author_name=an,
        author_email=ae,
        authored_date=with_milliseconds(ad),
        committer_name=cn,
        committer_email=ce,
        committed_date=with_milliseconds(cd),
        trailers=tuple(_trailers(trailers)),
        message=message,
    )


def _trailers(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def with_milliseconds(date: str) -> str:
    """`2025-11-21T13:47:00+01:00` as GitLab writes it: `2025-11-21T13:47:00.000+01:00`."""
    if date.endswith("Z"):
        date = date[:-1] + "+00:00"
    return f"{date[:19]}.000{date[19:]}" if len(date) >= 25 else date


async def read_stats(git: Git, commit: Commit) -> Stats:
    """Lines added and deleted against the first parent; binary files count for nothing."""
    parent = commit.parents[0] if commit.parents else EMPTY_TREE
    output = await git.text("diff-tree", "-r", "--numstat", "--no-renames", parent, commit.sha)
    additions = deletions = 0
    for line in output.splitlines():
        added, deleted, _ = line.split("\t", 2)
        additions += int(added) if added != "-" else 0
        deletions += int(deleted) if deleted != "-" else 0
    return Stats(additions, deletions)


async def read_all_stats(git: Git, shas: Sequence[str]) -> dict[str, Stats]:
    """As `read_stats`, for many commits by one process."""
    if not shas:
        return {}
    options = ("--no-walk=unsorted", "--numstat", "--no-renames", "--diff-merges=first-parent", "--root")
    stdin = "".join(f"{sha}\n" for sha in shas).encode("ascii")
    output = await git.text("log", *options, "--format=%x00%H", "--stdin", stdin=stdin)
    found = {}
    for section in output.split("\0")[1:]:
        sha, _, lines = section.partition("\n")
        counts = [line.split("\t", 2)[:2] for line in lines.splitlines() if "\t" in line]
        added, deleted = ([int(pair[n]) for pair in counts if pair[n] != "-"] for n in (0, 1))
        found[sha] = Stats(sum(added), sum(deleted))
    return found


@dataclass(frozen=True)
class Contributor:
    """An author by his address; `name` as in his newest commit."""

    name: str
    email: str
    commits: int


async def contributors(git: Git, sha: str) -> list[Contributor]:
    """Authors of the newest `MOST_COUNTED` commits but merges. Source: app/models/repository.rb (`contributors`)."""
    output = await git.output(
        "log", "--no-merges", f"--max-count={MOST_COUNTED}", "-z", "--format=%an%x00%ae", sha, "--"
    )
    cells = output.decode("utf-8", "replace").rstrip("\0").split("\0")
    found: dict[str, Contributor] = {}
    for name, email in zip(cells[::2], cells[1::2], strict=False):
        known = found.get(email)
        found[email] = Contributor(known.name if known else name, email, known.commits + 1 if known else 1)
    return list(found.values())
