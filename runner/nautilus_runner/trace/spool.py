"""The log as a file: everything that the server gets is read from here, so it can be sent again from anywhere."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 20


class Spool:
    """Append-only bytes with a running CRC-32. `on_growth` is called after each append.

    A full disk costs the log what did not fit, and a line that says so once there is room again; never the job.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """Open `path`, with its first `keep` bytes (None: all that are there)."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        size = os.fstat(self._fd).st_size
        if keep is not None and keep < size:
            os.ftruncate(self._fd, keep)
            size = keep
        self._size = size
        self._lost = 0
        self._crc = self._crc_of_file()
        self.on_growth: Callable[[], None] = lambda: None

    @property
    def size(self) -> int:
        return self._size

    @property
    def checksum(self) -> str:
        return f"crc32:{self._crc:08x}"

    def append(self, data: bytes) -> None:
        if not data:
            return
        note = f"\n[{self._lost} bytes are missing here: the runner's disk was full]\n" if self._lost else ""
        view = memoryview(note.encode() + data)
        try:
            while view:
                written = os.pwrite(self._fd, view, self._size)
                self._crc = zlib.crc32(view[:written], self._crc)
                self._size += written
                view = view[written:]
            self._lost = 0
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._lost += min(len(view), len(data))
        self.on_growth()

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, min(size, max(0, self._size - offset)), offset)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _crc_of_file(self) -> int:
        crc, offset = 0, 0
        while offset < self._size:
            part = os.pread(self._fd, min(_CHUNK, self._size - offset), offset)
            if not part:
                break
            crc = zlib.crc32(part, crc)
            offset += len(part)
        return crc
