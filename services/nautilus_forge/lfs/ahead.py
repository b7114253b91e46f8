"""Hashing uploads while the gateway still writes them, so that little is left to do when the last byte is there.

nginx only ever appends to the files of its spool folder. While large uploads are expected, a thread reads what has been
added to each of them, and keeps the file open: as long as it is, no other file can have its inode. Whoever gets the
finished body takes over the hash as far as it is, and goes on from there; without one he begins at the start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

WORTHWHILE = 16 << 20
"""Bytes; what is shorter is hashed in no time."""
_BUFFER = 128 << 10
_AT_ONCE = 16 << 20
_LOOK_EVERY_S = 0.02
_PATIENCE_S = 5.0


_Inode = tuple[int, int]


class Digest(Protocol):
    """Of `hashlib`."""

    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass
class Progress:
    """The hash of a file's first `offset` bytes."""

    digest: Digest = field(default_factory=hashlib.sha256)
    offset: int = 0

    def read(self, fd: int, most: int | None = None) -> int:
        """Goes on to the file's end as it is now, or for about `most` bytes; how many were read."""
        view, begin = memoryview(bytearray(_BUFFER)), self.offset
        while most is None or self.offset - begin < most:
            count = os.preadv(fd, [view], self.offset)
            if not count:
                break
            self.digest.update(view[:count])
            self.offset += count
        return self.offset - begin


@dataclass
class _Followed:
    """`lock` is held while it is read; `is_taken`: it is somebody else's now, and `fd` closed."""

    fd: int
    progress: Progress = field(default_factory=Progress)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_taken: bool = False


class HashAhead:
    """One thread at most, and only until the expected uploads have been taken (other bodies lie there too).

    `folder`: the gateway's spool, None without one.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[_Inode, _Followed] = {}
        self._taken: set[_Inode] = set()
        self._until = 0.0
        self._expected = 0
        self._thread: threading.Thread | None = None

    def expect(self, size: int) -> None:
        """An upload of so many bytes is about to begin."""
        if self._folder is None or size < WORTHWHILE:
            return
        with self._lock:
            self._until = time.monotonic() + _PATIENCE_S
            self._expected += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hash ahead", daemon=True)
                self._thread.start()

    def take(self, fd: int) -> Progress:
        """What is known of this open file already; the caller goes on by himself. Waits for a read of moments."""
        status = os.fstat(fd)
        key = _inode(status)
        with self._lock:
            found = self._files.pop(key, None)
            self._taken.add(key)
            self._expected -= status.st_size >= WORTHWHILE and self._expected > 0
        if found is None:
            return Progress()
        with found.lock:
            found.is_taken = True
            os.close(found.fd)
        return found.progress

    def _run(self) -> None:
        while True:
            try:
                has_read = self._step()
            except OSError:
                has_read = False
            with self._lock:
                if has_read:
                    self._until = time.monotonic() + _PATIENCE_S
                if not self._expected or time.monotonic() > self._until:
                    self._thread, self._expected = None, 0
                    self._drop_all()
                    return
            if not has_read:
                time.sleep(_LOOK_EVERY_S)

    def _step(self) -> bool:
        """Looks at each file once; whether any had grown."""
        assert self._folder is not None
        with os.scandir(self._folder) as entries:
            names = [
                entry.name
                for entry in entries
                if entry.name.isdigit() and entry.is_file(follow_symlinks=False)
            ]
        for name in names:
            self._follow(self._folder / name)
        with self._lock:
            known = list(self._files)
        return sum(self._read(key) for key in known) > 0

    def _follow(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            status = path.lstat()
            with self._lock:
                is_known = _inode(status) in self._files or _inode(status) in self._taken
            if is_known or status.st_size < WORTHWHILE:
                return
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with self._lock:
                self._files[_inode(os.fstat(fd))] = _Followed(fd)

    def _read(self, key: _Inode) -> bool:
        """A piece of what was added; whether there was any. A file that is deleted is let go."""
        with self._lock:
            one = self._files.get(key)
        if one is None:
            return False
        with one.lock:
            if one.is_taken:
                return False
            has_read = one.progress.read(one.fd, _AT_ONCE) > 0
            if os.fstat(one.fd).st_nlink == 0:
                with self._lock:
                    is_ours = self._files.pop(key, None) is not None
                if is_ours:
                    os.close(one.fd)
            return has_read

    def _drop_all(self) -> None:
        for one in self._files.values():
            os.close(one.fd)
        self._files.clear()
        self._taken.clear()


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino
