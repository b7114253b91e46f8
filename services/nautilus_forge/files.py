"""Files that must be whole or absent: copying, getting to the disk early, and making a name durable."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from nautilus_forge.errors import InsufficientStorage

TEMPORARY_PREFIX = "upload-"
"""How files begin, in the folder for temporary files, into which a body is received or copied; a start removes them."""
_BUFFER = 1 << 20
_PIECE = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2


class WriteOut:
    """Has the kernel write a growing file to the disk piece by piece, so that its fsync has little left to do.

    It promises nothing by itself: only the fsync makes durable.
    """

    def __init__(self) -> None:
        self._begun = 0

    def reached(self, fd: int, end: int) -> None:
        """The first `end` bytes are there. May wait for a busy disk."""
        begin = _sync_file_range()
        while end - self._begun >= _PIECE:
            begin(fd, self._begun, _PIECE, _SYNC_FILE_RANGE_WRITE)
            self._begun += _PIECE


def pieces(fd: int, offset: int, most: int | None, size: int) -> Iterator[memoryview]:
    """What an open file holds from `offset` to its end as it is now, or about `most` bytes of it, at most `size` at
    once; each is overwritten by the next. Raises `OSError`.
    """
    buffer, done = memoryview(bytearray(size)), 0
    while most is None or done < most:
        count = os.preadv(fd, [buffer], offset + done)
        if not count:
            return
        done += count
        yield buffer[:count]


class Copy:
    """What an open file holds from `start` on, as a temporary file in `folder` that becomes another by `finish`.

    A plain read and write: ext4 and its like copy no faster inside the kernel, and take twice the time for it there.
    Raises `OSError`, as do all its methods.
    """

    def __init__(self, folder: Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.start = start
        self._done = 0
        self._fd, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        self._path = Path(name)
        self._out = WriteOut()

    def go_on(self, fd: int, most: int | None = None) -> int:
        """Goes on to the source's end as it is now, or for about `most` bytes; how many."""
        begin = self._done
        for piece in pieces(fd, self.start + begin, most, _BUFFER):
            write_all(self._fd, piece)
            self._done += len(piece)
            self._out.reached(self._fd, self._done)
        return self._done - begin

    def finish(self, fd: int, length: int, final: Path, mode: int) -> None:
        """`length` bytes of the source are the file `final`: whole, in the disk, and its name in its folder.

        After an error nothing is left.
        """
        try:
            if self._done < length:
                self.go_on(fd, length - self._done)
            if self._done < length:
                raise OSError(errno.EIO, "the file is shorter than was said")
            os.ftruncate(self._fd, length)
            os.fchmod(self._fd, mode)
            os.fsync(self._fd)
            final.parent.mkdir(parents=True, exist_ok=True)
            self._path.rename(final)
        except BaseException:
            self.give_up()
            raise
        os.close(self._fd)

    def give_up(self) -> None:
        os.close(self._fd)
        with suppress(FileNotFoundError):
            self._path.unlink()


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_upwards(folder: Path, top: Path) -> None:
    """Syncs the folder and those above it, so that new folders survive a loss of power too."""
    while folder != top and folder.is_relative_to(top):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        folder = folder.parent


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def telling_of_a_full_disk(what: str) -> Iterator[None]:
    """No room for it is `InsufficientStorage`, which names `what`; other errors are ours to hear."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise InsufficientStorage(f"No space left for {what}") from error
        raise


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int]:
    """Linux's call, which Python does not have. Errors are of no interest: the fsync will say them."""
    import ctypes

    call = ctypes.CDLL(None).sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
