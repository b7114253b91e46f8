"""From what a user names ("main", "v1", "1c5d9e2", "main~2") to a commit.

A branch wins over a tag, a tag over an object name, as in GitLab.
"""

from __future__ import annotations

import re

from nautilus_forge.git.command import Git

_SHA = re.compile(r"[0-9a-f]{40}")
_UNSPEAKABLE = re.compile(r"[\x00-\x20\x7f]|^[-:]|^$|@\{|\.\.|\^\{/")
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def is_sha(text: str) -> bool:
    return _SHA.fullmatch(text) is not None


def is_speakable(revision: str) -> bool:
    """May it be handed to git at all? No options, ranges, reflogs, searches or control characters."""
    return len(revision) <= 1024 and _UNSPEAKABLE.search(revision) is None


async def commit_sha(git: Git, revision: str) -> str | None:
    """The commit's full name, None where the revision names none."""
    if not is_speakable(revision):
        return None
    candidates = [f"refs/heads/{revision}", f"refs/tags/{revision}", revision]
    if is_sha(revision):
        candidates = [revision]
    return await _first(git, [f"{candidate}^{{commit}}" for candidate in candidates])


async def object_of_type(git: Git, name: str, kind: str) -> str | None:
    """The full name of an object of one type ("blob", "tree") given by (short) hash, None otherwise."""
    if not re.fullmatch(r"[0-9a-f]{4,40}", name):
        return None
    return await _first(git, [f"{name}^{{{kind}}}"])


async def _first(git: Git, names: list[str]) -> str | None:
    stdin = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    output = await git.text("cat-file", "--batch-check=%(objectname)", stdin=stdin)
    return next((line for line in output.splitlines() if is_sha(line)), None)
