"""Objects of Git LFS on this machine, kept once by their SHA-256, in folders that only the runner reads.

That an object is here gives nobody a right to it: a job gets it only after its server has offered it to the job's own
token. Jobs get copies, never links.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nautilus_runner.errors import GitError
from nautilus_runner.files.in_use import InUse
from nautilus_runner.files.oldest import files_below, remove_oldest

_OID = re.compile(r"[0-9a-f]{64}")
_MIB = 1 << 20
_RESERVE = 512 * _MIB
_CHUNK = 1 << 20


class LfsStore:
    """All objects of this runner, below one folder (0700)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}
        self._in_use = InUse()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def path(self, oid: str) -> Path:
        if not _OID.fullmatch(oid):
            raise GitError(f"{oid[:80]!r} is not the name of an LFS object")
        return self._folder / oid[:2] / oid[2:4] / oid

    @asynccontextmanager
    async def holding(self, oid: str) -> AsyncIterator[Path]:
        """The object's path, while nobody else fetches it and no pruning takes it."""
        lock = self._locks.setdefault(oid, asyncio.Lock())
        try:
            with self._in_use.using(oid):
                async with lock:
                    yield self.path(oid)
        finally:
            if not self._in_use.has(oid):
                self._locks.pop(oid, None)

    def is_used(self, name: str) -> bool:
        """Whether somebody fetches or copies the object of this file."""
        return self._in_use.has(name.removesuffix(".part"))

    def has(self, oid: str, size: int) -> bool:
        path = self.path(oid)
        try:
            if path.stat().st_size != size:
                path.unlink()
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def check_room(self, size: int) -> None:
        """Raises GitError where `size` bytes more would fill the disk."""
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free - size < _RESERVE:
            raise GitError(
                f"{size // _MIB} MiB of LFS objects do not fit: {free // _MIB} MiB are free in {self._folder}, "
                f"of which {_RESERVE // _MIB} are kept"
            )

    async def take(self, oid: str, size: int, part: Partial) -> None:
        """Make what `part` holds the object. Raises GitError where it is not what its name says."""
        if part.size != size or await asyncio.to_thread(part.digest) != oid:
            part.discard()
            raise GitError(f"LFS object {oid} arrived broken: its content does not have this SHA-256")
        await asyncio.to_thread(part.become, self.path(oid))

    def partial(self, oid: str) -> Partial:
        """What is there of an object that is on its way; an earlier attempt's bytes are gone on from."""
        path = self.path(oid)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Partial(path.with_name(f"{oid}.part"))

    def prune(self, limit_mib: int) -> None:
        """Remove the objects used longest ago beyond the bound, none that is in use. Blocking."""
        with contextlib.suppress(BlockingIOError):
            remove_oldest(
                files_below(self._folder),
                limit_mib * _MIB,
                lambda path: self.is_used(path.name),
                remove=self.remove,
            )

    def remove(self, path: Path) -> None:
        """Remove the object, or the part of one, in this file. Raises BlockingIOError where it is in use by now."""
        with self._in_use.unless(path.name.removesuffix(".part")) as is_free:
            if not is_free:
                raise BlockingIOError(f"{path.name} is in use")
            path.unlink(missing_ok=True)


class Partial:
    """A file that grows to become an object."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, data: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(data)

    def digest(self) -> str:
        found = hashlib.sha256()
        with self._path.open("rb") as file:
            while data := file.read(_CHUNK):
                found.update(data)
        return found.hexdigest()

    def become(self, path: Path) -> None:
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        self._path.chmod(0o400)
        self._path.rename(path)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
