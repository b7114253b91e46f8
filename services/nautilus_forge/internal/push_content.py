"""What the commits of a push may hold: no file that somebody else has locked, no pointer without its LFS object.

Source: gitlabhq lib/gitlab/checks/{diff_check,lfs_check}.rb.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from nautilus_forge.git.command import Git
from nautilus_forge.lfs.locks import first_locked
from nautilus_forge.ports import RefChange

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
