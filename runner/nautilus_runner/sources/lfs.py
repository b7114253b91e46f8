"""Git LFS objects in a checkout that no job has ever written: pointers found, objects fetched, contents put in place.

git-lfs itself never runs, and nothing that the repository says about servers or programs is heeded: of `.lfsconfig`
only `lfs.fetchinclude` and `lfs.fetchexclude` count. Source: git-lfs `docs/spec.md`, `docs/man/git-lfs-config.adoc`.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.errors import GitError, PathError, SourceRefused
from nautilus_runner.files import beneath
from nautilus_runner.sources import git, index
from nautilus_runner.sources.lfs_client import LfsClient, Offer, Pointer, distinct
from nautilus_runner.sources.lfs_store import LfsStore

_MAX_POINTER = 1024
_POINTER = re.compile(
    rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n"
)
_PARALLEL = 4
_COPY = 1 << 24


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of it: files with their content, and bytes; `fetched` objects were not on this machine before."""

    files: int = 0
    size: int = 0
    fetched: int = 0


async def has_lfs(target: Path) -> bool:
    """Whether any `.gitattributes` of the checkout names LFS."""
    argv = ["git", "ls-files", "-z", "--", ":(glob)**/.gitattributes"]
    names = (await git.run(argv, cwd=target, env=git.environment(target))).split(b"\0")
    return await asyncio.to_thread(_any_names_lfs, target, [os.fsdecode(name) for name in names if name])


def _any_names_lfs(target: Path, names: Sequence[str]) -> bool:
    return any(b"filter=lfs" in _small_file(target, name, 1 << 20) for name in names)


async def place_objects(
    target: Path,
    remote: git.Remote,
    public: git.Remote,
    store: LfsStore,
    limit_mib: int,
    *,
    oid_bytes: int = 20,
) -> Placed:
    """Replace the pointers of the checkout in `target` by what they stand for. `oid_bytes`: 32 where git counts by
    SHA-256. Raises SourceRefused, GitError."""
    argv = ["git", "ls-files", "-z", "--", ":(attr:filter=lfs)"]
    listing = (await git.run(argv, cwd=target, env=git.environment(target))).split(b"\0")
    wanted = await _wanted(target)
    names = [name for raw in listing if raw and wanted(name := os.fsdecode(raw))]
    pointers = await asyncio.to_thread(_pointers, target, names)
    if not pointers:
        return Placed()
    client = LfsClient(remote, public)
    try:
        offers = await client.offers(distinct(pointers.values()))
        missing = await asyncio.to_thread(_missing, offers, store)
        store.check_room(missing + sum(p.size for p in pointers.values()))
        gate = asyncio.Semaphore(_PARALLEL)
        work = [_place(target, offer, _of(pointers, offer), client, store, gate) for offer in offers]
        fetched = await _all(work)
    finally:
        await client.close()
    await asyncio.to_thread(index.record, target, {os.fsencode(n) for n in pointers}, oid_bytes=oid_bytes)
    await asyncio.to_thread(store.prune, limit_mib)
    return Placed(len(pointers), sum(p.size for p in pointers.values()), sum(fetched))


async def _all(work: Sequence[Coroutine[Any, Any, bool]]) -> list[bool]:
    """All of them, or the first error with the others ended."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _place(
    target: Path,
    offer: Offer,
    names: Sequence[str],
    client: LfsClient,
    store: LfsStore,
    gate: asyncio.Semaphore,
) -> bool:
    """One object to all of its files; whether it had to be fetched."""
    pointer = offer.pointer
    async with gate, store.holding(pointer.oid) as path:
        is_here = await asyncio.to_thread(store.has, pointer.oid, pointer.size)
        if not is_here:
            await client.download(offer, store)
        try:
            for name in names:
                await asyncio.to_thread(_fill, target, name, path)
        except OSError as error:
            raise GitError(f"LFS object {pointer.oid} can't be put in place: {error.strerror}") from error
    return not is_here


def _missing(offers: Sequence[Offer], store: LfsStore) -> int:
    """How many bytes are yet to be fetched."""
    return sum(o.pointer.size for o in offers if not store.has(o.pointer.oid, o.pointer.size))


def _of(pointers: dict[str, Pointer], offer: Offer) -> list[str]:
    return [name for name, pointer in pointers.items() if pointer == offer.pointer]


def _pointers(target: Path, names: Sequence[str]) -> dict[str, Pointer]:
    """The pointers among these files, by path; what is none stays as it is."""
    found = {}
    for name in names:
        match = _POINTER.fullmatch(_small_file(target, name, _MAX_POINTER))
        if match:
            found[name] = Pointer(match[1].decode(), int(match[2]))
    return found


def _small_file(target: Path, name: str, limit: int) -> bytes:
    """A regular file's content; b"" for anything else, and for one that is larger than `limit`."""
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = beneath.open_beneath(root, name, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, PathError):
        return b""
    finally:
        os.close(root)
    with os.fdopen(fd, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError:  # a folder
            return b""
    return content if len(content) <= limit else b""


def _fill(target: Path, name: str, source: Path) -> None:
    """Overwrite a pointer's file; its mode stays. It is a fresh file of ours, so nobody else has it open."""
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        out = beneath.open_beneath(root, name, os.O_WRONLY | os.O_TRUNC)
    finally:
        os.close(root)
    with os.fdopen(out, "wb", buffering=0) as file, source.open("rb", buffering=0) as content:
        try:  # shares the blocks where the filesystem can
            while os.copy_file_range(content.fileno(), file.fileno(), _COPY):
                pass
        except OSError:
            while data := content.read(_COPY):
                view = memoryview(data)
                while view:
                    view = view[file.write(view) or 0 :]


async def _wanted(target: Path) -> Callable[[str], bool]:
    """Which paths `.lfsconfig` lets through. Whatever else is in it is not heeded."""
    config = target / ".lfsconfig"
    if config.is_symlink() or not config.is_file() or config.stat().st_size > 1 << 16:
        return lambda name: True
    include = await _patterns(target, "lfs.fetchinclude")
    exclude = await _patterns(target, "lfs.fetchexclude")

    def is_wanted(name: str) -> bool:
        return (not include or _matches(name, include)) and not _matches(name, exclude)

    return is_wanted


async def _patterns(target: Path, key: str) -> list[str]:
    argv = ["git", "config", "--file", ".lfsconfig", "--no-includes", "--get", key]
    try:
        said = await git.run(argv, cwd=target, env=git.environment(target), may_find_nothing=True)
    except GitError as error:
        raise SourceRefused(f".lfsconfig can't be read: {error}") from error
    return [p.strip().strip("/") for p in said.decode(errors="replace").split(",") if p.strip().strip("/")]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    parts = name.split("/")
    heads = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(fnmatch.fnmatchcase(head, p) for p in patterns for head in (*heads, parts[-1]))
