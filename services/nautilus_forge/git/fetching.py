"""Filling a repository from another one, on this machine or over HTTP. What it fills has no branches of its own yet."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git

_BRANCHES = "+refs/heads/*:refs/heads/*"
_TAGS = "+refs/tags/*:refs/tags/*"
_LOOK_EVERY_S = 2.0
_UPLOADING = "git -c 'safe.directory=*' upload-pack"
_LENIENT = ("badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode")
"""What old histories have and no checkout is harmed by; as for pushes."""


class TooLarge(Exception):
    """The repository outgrew its limit while it was fetched."""


async def fetch_all(
    git: Git,
    address: str,
    *,
    environment: Mapping[str, str],
    branch: str | None = None,
    limit_bytes: int,
    timeout_s: float,
) -> str | None:
    """Fetch the branches (or one of them) and tags of the repository at `address`, all or none of them.

    `address`: an absolute path, or a URL for which `environment` is `outbound.git.environment`. Returns the
    branch that its HEAD names, None where that says nothing. Raises `GitError`, `TooLarge`.
    """
    patient = Git(git.repository, timeout_s).with_env({**environment})
    head = await _head_of(patient, address)
    refs = (f"+refs/heads/{branch}:refs/heads/{branch}",) if branch is not None else (_BRANCHES, _TAGS)
    checks = [part for name in _LENIENT for part in ("-c", f"fetch.fsck.{name}=ignore")]
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--atomic", "--no-auto-maintenance")
    work = asyncio.ensure_future(
        patient.output(
            *("-c", "fetch.fsckObjects=true", *checks),
            *("fetch", *options, f"--upload-pack={_UPLOADING}", "--", address, *refs),
        )
    )
    try:
        await _within(work, git.repository, limit_bytes)
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.to_thread(_clear, git.repository / "objects" / "pack")
    return branch or head


async def _within(work: asyncio.Future[bytes], repository: Path, limit_bytes: int) -> None:
    while not work.done():
        await asyncio.wait({work}, timeout=_LOOK_EVERY_S)
        if await asyncio.to_thread(size_bytes, repository) > limit_bytes:
            raise TooLarge
    work.result()


async def _head_of(git: Git, address: str) -> str | None:
    """The branch that the other repository's HEAD points to. Raises `GitError` where it cannot be reached."""
    output = await git.text("ls-remote", "--symref", f"--upload-pack={_UPLOADING}", "--", address, "HEAD")
    found = re.match(r"ref: refs/heads/(\S+)\tHEAD", output)
    return found[1] if found else None


def size_bytes(folder: Path) -> int:
    """What the files below a folder take, in whole; what vanishes meanwhile counts for nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{path}/{name}").st_size
            except FileNotFoundError:
                continue
    return total


def _clear(folder: Path) -> None:
    """Half-written packs of a fetch that was ended."""
    for leftover in folder.glob("tmp_pack_*"):
        leftover.unlink(missing_ok=True)


def plain_reason(error: GitError) -> str:
    """What went wrong in git's words: its last line that says something, without addresses' credentials."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    text = telling[-1] if telling else f"git {error.what} failed"
    return re.sub(r"(https?://)[^/@\s]*@", r"\1", text)[:255]
