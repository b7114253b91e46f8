"""Opening a path that somebody hostile may have laid out: never above the root, never through a symbolic link.

`openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` where the kernel has it (Linux 5.6; some sandboxes refuse it),
else one component at a time with O_NOFOLLOW, which is as strict and only slower.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from nautilus_runner.errors import PathError

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_how_is_missing = [False]


def open_beneath(root_fd: int, path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor for `path` below the folder `root_fd`.

    Raises PathError when the path leads out, goes through a link or is a link; FileNotFoundError and other
    OSErrors as open does. "." and "" are the root itself.
    """
    parts = _parts(path)
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if not parts:
        return os.open(".", flags, dir_fd=root_fd)
    try:
        if not _how_is_missing[0]:
            try:
                return _openat2(root_fd, "/".join(parts), flags)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.E2BIG):
                    raise
                _how_is_missing[0] = True
        return _walk(root_fd, parts, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR):
            raise PathError(f"{path}: leads through a link or out of the folder") from error
        raise


def open_regular(dir_fd: int, name: str, owner: int | None) -> int:
    """A descriptor of the regular file `name` in a folder; its mode can't block us, and a device is never opened.

    `owner`: a file with several names (hard links) must belong to this user: else it is somebody else's file
    that the job linked into its tree. Raises PathError.
    """
    fd = os.open(
        name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=dir_fd
    )
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise PathError(f"{name}: not a regular file")
    if owner is not None and info.st_nlink > 1 and info.st_uid != owner:
        os.close(fd)
        raise PathError(f"{name}: a hard link to a file of another user")
    return fd


def _parts(path: str) -> list[str]:
    if path.startswith("/") or "\0" in path:
        raise PathError(f"{path!r}: not a path below the folder")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PathError(f"{path}: leads out of the folder")
    return parts


def _openat2(root_fd: int, path: str, flags: int) -> int:
    how = struct.pack("QQQ", flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(how, len(how))
    fd = libc.syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(root_fd),
        ctypes.c_char_p(os.fsencode(path)),
        buffer,
        ctypes.c_size_t(len(how)),
    )
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(fd)


def _walk(root_fd: int, parts: list[str], flags: int) -> int:
    folder = os.dup(root_fd)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)
