"""Job logs on disk: one file per job, written at explicit offsets, its length being the length of the log."""

from __future__ import annotations

import os
import re
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from nautilus_forge.errors import BadRequest, InsufficientStorage
from nautilus_forge.files import is_disk_full
from nautilus_forge.traces.mask import Mask

_RANGE = re.compile(r"^(?:bytes[= ])?(\d{1,15})-")
_CHUNK = 1 << 20
_SHARD = 1000


def relative_path(job_id: int) -> str:
    """Where the log of a job is, below the data folder. The migration's trigger knows it too."""
    return f"traces/{job_id // _SHARD}/{job_id}.log"


def parse_start(content_range: str) -> int:
    """First byte of a PATCH's `Content-Range` (`start-end`, no unit); the end is not believed.

    Raises `BadRequest`. Source: GitLab app/services/ci/append_build_trace_service.rb.
    """
    match = _RANGE.match(content_range.strip())
    if match is None:
        raise BadRequest("Content-Range is invalid")
    return int(match.group(1))


@dataclass(frozen=True)
class Appended:
    """Length of the log after a PATCH, whether the PATCH fitted, and whether a secret was hidden in it."""

    size: int
    is_accepted: bool
    is_masked: bool = False


class TraceStore:
    """Open log files, at most `max_open` at a time, the least used closed first.

    Used from the event loop's thread only; every call is a handful of system calls on the page cache.
    """

    def __init__(self, data_dir: Path, max_open: int = 128) -> None:
        self._data_dir = data_dir
        self._max_open = max_open
        self._files: OrderedDict[int, int] = OrderedDict()

    def path(self, job_id: int) -> Path:
        return self._data_dir / relative_path(job_id)

    def size(self, job_id: int) -> int:
        """Bytes of log on disk; 0 where there is no log."""
        try:
            return self.path(job_id).stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, job_id: int, start: int, data: bytes, mask: Mask) -> Appended:
        """Writes `data` at `start`, which must be the end of the log or lie before it with equal bytes.

        Bytes that are there already are compared, not written: a PATCH that arrives twice or overlaps is
        accepted when it says the same. What is not accepted changes nothing.
        Raises `InsufficientStorage`; the log then is as it was.
        """
        fd = self._open(job_id)
        size = os.fstat(fd).st_size
        if start > size:
            return Appended(size, False)
        known = size - start
        if known and not self._is_same(fd, start, data[:known], mask):
            return Appended(size, False)
        fresh = data[known:] if known else data
        if not fresh:
            return Appended(size, True)
        return self._write(fd, size, fresh, mask)

    def _is_same(self, fd: int, start: int, data: bytes, mask: Mask) -> bool:
        stored = os.pread(fd, len(data), start)
        if stored == data or not mask:
            return stored == data
        before = max(0, start - mask.lookback)
        hidden = mask.apply(os.pread(fd, start - before, before), data)
        return hidden is not None and hidden[1][hidden[0] :] == stored

    def _write(self, fd: int, size: int, fresh: bytes, mask: Mask) -> Appended:
        at, text, is_masked = size, fresh, False
        if mask:
            before = max(0, size - mask.lookback)
            hidden = mask.apply(os.pread(fd, size - before, before), fresh)
            if hidden is not None:
                at, text, is_masked = size - hidden[0], hidden[1], True
        try:
            _pwrite_all(fd, text, at)
        except OSError as error:
            os.ftruncate(fd, size)
            if is_disk_full(error):
                raise InsufficientStorage("No space left for job logs") from error
            raise
        return Appended(size + len(fresh), True, is_masked)

    def truncate(self, job_id: int) -> None:
        """Empties the log: the runner sends it again."""
        os.ftruncate(self._open(job_id), 0)

    def checksum(self, job_id: int) -> int:
        """CRC-32 of the log. Reads the file: call it in a thread."""
        crc = 0
        try:
            with self.path(job_id).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    crc = zlib.crc32(chunk, crc)
        except FileNotFoundError:
            return 0
        return crc

    def sync(self, job_id: int) -> None:
        """Makes the log survive a loss of power. Blocks: call it in a thread."""
        path = self.path(job_id)
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        _sync_folder(path.parent)

    def visible_size(self, job_id: int, mask: Mask) -> int:
        """How much of a growing log may be shown: all but what may be the beginning of a secret."""
        size = self.size(job_id)
        if not size or not mask:
            return size
        with self.path(job_id).open("rb") as file:
            file.seek(max(0, size - mask.lookback))
            return size - mask.held_back(file.read(mask.lookback))

    def close(self, job_id: int) -> None:
        fd = self._files.pop(job_id, None)
        if fd is not None:
            os.close(fd)

    def remove(self, job_id: int) -> None:
        """Deletes the log, if there is one."""
        self.close(job_id)
        self.path(job_id).unlink(missing_ok=True)

    def close_all(self) -> None:
        for job_id in list(self._files):
            self.close(job_id)

    def _open(self, job_id: int) -> int:
        fd = self._files.get(job_id)
        if fd is not None:
            self._files.move_to_end(job_id)
            return fd
        path = self.path(job_id)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o640)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, flags, 0o640)
        except OSError as error:
            if is_disk_full(error):
                raise InsufficientStorage("No space left for job logs") from error
            raise
        self._files[job_id] = fd
        while len(self._files) > self._max_open:
            os.close(self._files.popitem(last=False)[1])
        return fd


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
