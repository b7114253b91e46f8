"""What the commits of a push may hold: no file that somebody else has locked, no pointer without its LFS object.

Source: gitlabhq lib/gitlab/checks/{diff_check,lfs_check,lfs_integrity}.rb, lib/gitlab/git/lfs_changes.rb.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.lfs.locks import first_locked
from nautilus_forge.ports import RefChange

_LONGEST_POINTER = 200
_MOST_POINTERS = 20_000
_AT_ONCE = 5_000
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:[a-z0-9.-]+ [^\n]*\n)*?oid sha256:([0-9a-f]{64})\n"
)
_HEADER = re.compile(rb"([0-9a-f]{40,64}) (\w+) ([0-9]+)\n")
MISSING = 'LFS objects are missing. Ensure LFS is properly set up or try a manual "git lfs push --all".'


async def locked_path(git: Git, changes: Sequence[RefChange], locked: dict[str, str]) -> str | None:
    """The words for the first file of others that the new commits change; `locked`: owners' names by path.

    A merge changes what is as in none of its parents. Raises `GitError`.
    """
    new = [change.new_sha for change in changes if not change.is_deletion]
    if not new or not locked:
        return None
    options = ("-z", "-c", "--no-renames", "--name-only", "--format=", "--root")
    async with git.stream("log", *options, *new, "--not", "--all") as chunks:
        async for paths in _between_nuls(chunks):
            if reason := first_locked(paths, locked):
                return reason
    return None


async def _between_nuls(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[str]]:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\0")
        yield [path.strip(b"\n").decode("utf-8", "surrogateescape") for path in whole]
    yield [rest.strip(b"\n").decode("utf-8", "surrogateescape")]


async def pushed_pointers(quarantine: Git) -> set[str]:
    """Ids of the LFS objects that the pushed blobs point to, by the small ones among them. Raises `GitError`."""
    small: list[str] = []
    form = "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    async with quarantine.stream(
        "cat-file", form, "--batch-all-objects", "--unordered", "--buffer"
    ) as chunks:
        async for lines in _lines(chunks):
            small += (line.split(" ")[0] for line in lines if _may_be_pointer(line))
            if len(small) >= _MOST_POINTERS:
                break
    found: set[str] = set()
    for start in range(0, len(small), _AT_ONCE):
        found |= await _pointers(quarantine, small[start : start + _AT_ONCE])
    return found


def _may_be_pointer(line: str) -> bool:
    _, kind, size = line.split(" ")
    return kind == "blob" and 100 <= int(size) <= _LONGEST_POINTER


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Iterable[str]]:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield [line.decode("ascii") for line in whole]


async def _pointers(git: Git, shas: Collection[str]) -> set[str]:
    stdin = "".join(f"{sha}\n" for sha in shas).encode("ascii")
    output = await git.output("cat-file", "--batch", "--buffer", stdin=stdin)
    found: set[str] = set()
    position = 0
    while match := _HEADER.match(output, position):
        end = match.end() + int(match[3])
        if pointer := _POINTER.match(output[match.end() : end]):
            found.add(pointer[1].decode("ascii"))
        position = end + 1
    if position != len(output):
        raise GitError("cat-file", stderr="an answer that is none")
    return found
