"""Copies of whole repositories, from this machine or over HTTP: fetched beside, then taken over at once."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.errors import GitError
from nautilus_forge.git.command import Git
from nautilus_forge.git.refs import RefMoved

_BRANCHES = "+refs/heads/*:refs/heads/*"
_TAGS = "+refs/tags/*:refs/tags/*"
_LOOK_EVERY_S = 2.0
_UPLOADING = "git -c 'safe.directory=*' upload-pack"
_LENIENT = ("badTimezone", "missingSpaceBeforeDate", "zeroPaddedFilemode")
"""What old histories have and no checkout is harmed by; as for pushes."""


class TooLarge(Exception):
    """The repository outgrew its limit while it was fetched."""


@dataclass(frozen=True)
class Origin:
    """`address`: an absolute path, or a URL for which `environment` is `outbound.git.environment`.

    `branch`: the only one to take; None: all.
    """

    address: str
    environment: Mapping[str, str]
    branch: str | None = None


@dataclass(frozen=True)
class Bounds:
    limit_bytes: int
    timeout_s: float


async def fetch_all(scratch: Path, origin: Origin, bounds: Bounds) -> str | None:
    """A new bare repository at `scratch` with the origin's branches and tags (or its one branch).

    Returns the branch that its HEAD names, None where that says nothing. `scratch` is gone when it fails.
    Raises `GitError`, `TooLarge`.
    """
    try:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        scratch.parent.mkdir(parents=True, exist_ok=True)
        await Git(scratch).output("init", "--quiet", "--bare", "--template=")
        patient = Git(scratch, bounds.timeout_s).with_env({**origin.environment})
        head = await _head_of(patient, origin.address)
        await _within(asyncio.ensure_future(_fetch(patient, origin)), scratch, bounds.limit_bytes)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return origin.branch or head


async def _fetch(git: Git, origin: Origin) -> bytes:
    branch = origin.branch
    refs = (f"+refs/heads/{branch}:refs/heads/{branch}",) if branch is not None else (_BRANCHES, _TAGS)
    checks = [part for name in _LENIENT for part in ("-c", f"fetch.fsck.{name}=ignore")]
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
    return await git.output(
        *("-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "-c", "core.fsync=committed", *checks),
        *("fetch", *options, f"--upload-pack={_UPLOADING}", "--", origin.address, *refs),
    )


async def adopt(git: Git, scratch: Path) -> None:
    """Take over everything of `scratch` (same file system), which is gone then; all refs or none.

    Raises `RefMoved` where the repository has one of the refs by now, `GitError`.
    """
    listed = await Git(scratch).output(
        "for-each-ref", "--format=%(refname)%00%(objectname)%00", "refs/heads/", "refs/tags/"
    )
    cells = [cell.lstrip(b"\n") for cell in listed.split(b"\0")]
    refs = list(zip(cells[::2], cells[1::2], strict=False))
    await asyncio.to_thread(_move_packs, scratch / "objects" / "pack", git.repository / "objects" / "pack")
    stdin = b"".join(b"create %b\0%b\0" % ref for ref in refs)
    result = await git.run("update-ref", "-z", "--stdin", stdin=stdin)
    await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
    if result.returncode != 0 and ("exists" in result.stderr or "cannot lock ref" in result.stderr):
        raise RefMoved("refs/heads/")
    if result.returncode != 0:
        raise GitError("update-ref", returncode=result.returncode, stderr=result.stderr)


def _move_packs(source: Path, target: Path) -> None:
    """Indexes last: a pack counts from the moment when its index is there."""
    for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".idx"):
        path.rename(target / path.name)
    folder = os.open(target, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def _within(work: asyncio.Future[bytes], repository: Path, limit_bytes: int) -> None:
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=_LOOK_EVERY_S)
            if await asyncio.to_thread(size_bytes, repository) > limit_bytes:
                raise TooLarge
        work.result()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


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


def plain_reason(error: GitError) -> str:
    """What went wrong in git's words: its first line that says something, without credentials and our paths."""
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))] or lines
    text = telling[0] if telling else f"git {error.what} failed"
    text = re.sub(r"(https?://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(?<![\w:/])/[\w./@+-]+", "…", text)[:255]
