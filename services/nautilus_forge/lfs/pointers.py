"""LFS pointers among git's objects: small blobs that name the object that stands in their place.

Source: git-lfs docs/spec.md; gitlabhq lib/gitlab/git/lfs_changes.rb, gitaly internal/git/gitpipe.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git

_SHORTEST, LONGEST = 100, 200
"""Bytes of a pointer, as GitLab looks for them (one with extensions is longer, and not looked for)."""
_MOST = 20_000
_AT_ONCE = 5_000
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize [0-9]+\n"
)
_HEADER = re.compile(rb"([0-9a-f]{40,64}) (\w+) ([0-9]+)\n")
_FORM = "--batch-check=%(objectname) %(objecttype) %(objectsize)"


def oid_of(content: bytes) -> str | None:
    """The object that a blob points to; None for what is no pointer."""
    match = _POINTER.match(content) if _SHORTEST <= len(content) <= LONGEST else None
    return match[1].decode("ascii") if match else None


async def pushed(quarantine: Git) -> set[str]:
    """Ids of the LFS objects that pushed blobs point to. `quarantine` sees nothing but what was pushed.

    Of very many small blobs only the first 20,000 are looked at. Raises `GitError`.
    """
    small: list[str] = []
    async with quarantine.stream(
        "cat-file", _FORM, "--batch-all-objects", "--unordered", "--buffer"
    ) as chunks:
        async for lines in _lines(chunks):
            small += (line.split(" ")[0] for line in lines if _may_be_pointer(line))
            if len(small) >= _MOST:
                break
    return await _named(quarantine, small)


async def between(git: Git, base: str, head: str) -> set[str]:
    """Ids of the LFS objects that `head` points to and `base` does not. Raises `GitError`."""
    limit = f"--filter=blob:limit={LONGEST + 1}"
    listed = await git.output("rev-list", "--objects", "--no-object-names", limit, head, f"^{base}")
    checked = await git.text("cat-file", _FORM, "--buffer", stdin=listed)
    small = [line.split(" ")[0] for line in checked.splitlines() if _may_be_pointer(line)]
    return await _named(git, small[:_MOST])


async def _named(git: Git, small: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(small), _AT_ONCE):
        found |= await _read(git, small[start : start + _AT_ONCE])
    return found


def _may_be_pointer(line: str) -> bool:
    _, kind, size = line.split(" ")
    return kind == "blob" and _SHORTEST <= int(size) <= LONGEST


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[Iterable[str]]:
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield [line.decode("ascii") for line in whole]


async def _read(git: Git, shas: Collection[str]) -> set[str]:
    stdin = "".join(f"{sha}\n" for sha in shas).encode("ascii")
    output = await git.output("cat-file", "--batch", "--buffer", stdin=stdin)
    found: set[str] = set()
    position = 0
    while match := _HEADER.match(output, position):
        end = match.end() + int(match[3])
        if oid := oid_of(output[match.end() : end]):
            found.add(oid)
        position = end + 1
    if position != len(output):
        raise GitError("cat-file", stderr="an answer that is none")
    return found
