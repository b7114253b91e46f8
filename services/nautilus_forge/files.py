"""Files that must be whole or absent: copying inside the kernel, and making a name durable."""

from __future__ import annotations

import errno
import os
from pathlib import Path

TEMPORARY_PREFIX = "upload-"
"""How files begin, in the folder for temporary files, into which a body is received."""
_CHUNK = 16 << 20
_NOT_HERE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy_range(source: int, offset: int, length: int, target: int) -> None:
    """Reflink or in-kernel copy where the filesystem can, `sendfile` else. Raises `OSError`.

    What is copied begins to be written to the disk at once, so that a later fsync has little left to do.
    """
    done = 0
    while done < length:
        want = min(length - done, _CHUNK)
        try:
            copied = os.copy_file_range(source, target, want, offset_src=offset + done)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            copied = os.sendfile(target, source, offset + done, want)
        if copied == 0:
            raise OSError(errno.EIO, "the file is shorter than was said")
        os.posix_fadvise(target, done, copied, os.POSIX_FADV_DONTNEED)
        done += copied


def write_all(fd: int, data: bytes) -> None:
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
