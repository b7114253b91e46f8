"""Unpacking another job's archive into a folder of ours: nothing lands outside, nothing is followed, nothing bursts.

Names with `..`, absolute names, members below a link, and sums beyond the bound are refused; devices, setuid bits
and owners are dropped. Links are made as they are: they are the job's to follow, never ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nautilus_runner.errors import ArchiveError

_MAX_DIRECTORY = 128 << 20  # bytes of a zip's own list of members: it is held in memory
MAX_LINK = 4096
_COPY = 1 << 20
_DISK_RESERVE = 256 << 20
_CHECK_EVERY = 64 << 20


def unpack_zip(archive: IO[bytes], target: Path, limit_bytes: int) -> int:
    """Unpack into `target` (a folder of ours); the number of members. Blocking. Raises ArchiveError."""
    _refuse_huge_directory(archive)
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with zipfile.ZipFile(archive) as opened:
            unpacker = Unpacker(root, limit_bytes)
            for info in opened.infolist():
                unpacker.unpack(opened, info)
            unpacker.finish()
            return len(opened.filelist)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise ArchiveError(f"not a readable zip archive: {error}") from error
    except OSError as error:
        raise ArchiveError(f"can't be unpacked: {error.strerror or error}") from error
    finally:
        os.close(root)


class Unpacker:
    """Writes members of an archive below the folder `root`, and `limit_bytes` in all."""

    def __init__(self, root: int, limit_bytes: int) -> None:
        self._root = root
        self._left = limit_bytes
        self._until_check = 0
        self.folder_modes: list[tuple[list[str], int]] = []

    def unpack(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        parts = safe_parts(info.filename)
        if not parts:
            return
        mode = info.external_attr >> 16
        if info.is_dir():
            with self.folder(parts):
                self.folder_modes.append((parts, stat.S_IMODE(mode) & 0o777 or 0o755))
            return
        with self.folder(parts[:-1]) as folder:
            self.clear(folder, parts[-1], info.filename)
            if stat.S_ISLNK(mode):
                self._link(archive, info, folder, parts[-1])
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                self._file(archive, info, folder, parts[-1], stat.S_IMODE(mode) & 0o777 or 0o644)

    def finish(self) -> None:
        """Folders get their modes last: one may forbid writing into itself."""
        for parts, mode in reversed(self.folder_modes):
            with self.folder(parts) as folder:
                os.fchmod(folder, mode | 0o700)

    @contextlib.contextmanager
    def folder(self, parts: list[str]) -> Iterator[int]:
        folder = os.dup(self._root)
        try:
            for part in parts:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
                    os.chmod(part, 0o755, dir_fd=folder)  # noqa: S103 - whatever our own umask is
                try:
                    inner = os.open(
                        part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
                    )
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise ArchiveError(f"{'/'.join(parts)}: leads through a link or a file") from error
                    raise
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def clear(self, folder: int, name: str, shown: str) -> None:
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            raise ArchiveError(f"{shown}: a folder is in its place") from error

    def _link(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: int, name: str) -> None:
        if info.file_size > MAX_LINK:
            raise ArchiveError(f"{info.filename}: the link's target is too long")
        with archive.open(info) as member:
            os.symlink(os.fsdecode(member.read(MAX_LINK + 1)), name, dir_fd=folder)

    def _file(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: int, name: str, mode: int
    ) -> None:
        with archive.open(info) as member:
            self.write(member, folder, name, mode, _mtime_s(info))

    def write(self, member: IO[bytes], folder: int, name: str, mode: int, mtime_s: float | None) -> None:
        """A regular file of `member`'s content; nothing may be there under its name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, mode, dir_fd=folder)
        with os.fdopen(fd, "wb", buffering=0) as out:
            while data := member.read(_COPY):
                self._account(len(data), fd)
                view = memoryview(data)
                while view:
                    view = view[out.write(view) :]
            os.fchmod(fd, mode)
            if mtime_s is not None:
                os.utime(fd, (mtime_s, mtime_s))

    def _account(self, size: int, fd: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ArchiveError("unpacks to more than this runner allows (unpack_limit_mib)")
        self._until_check -= size
        if self._until_check < 0:
            self._until_check = _CHECK_EVERY
            disk = os.fstatvfs(fd)
            if disk.f_bavail * disk.f_frsize < _DISK_RESERVE:
                raise ArchiveError("unpacking would fill the disk")


def safe_parts(name: str) -> list[str]:
    if name.startswith("/") or "\0" in name or "\\" in name:
        raise ArchiveError(f"{name[:200]!r}: not a name for a member")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"{name[:200]!r}: leads out of the folder")
    return parts


def _mtime_s(info: zipfile.ZipInfo) -> int | None:
    """The modification time in the extended-timestamp field (0x5455), seconds since 1970."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 0x5455 and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return int(struct.unpack_from("<l", extra, 5)[0])
        extra = extra[4 + size :]
    return None


def _refuse_huge_directory(archive: IO[bytes]) -> None:
    """Look at the end record before `zipfile` reads the whole list of members into memory."""
    archive.seek(0, os.SEEK_END)
    size = archive.tell()
    archive.seek(max(0, size - (1 << 16) - 22))
    tail = archive.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise ArchiveError("not a readable zip archive: no end record")
    directory = struct.unpack_from("<L", tail, at + 12)[0]
    if directory == 0xFFFFFFFF and (at64 := tail.rfind(b"PK\x06\x06")) >= 0 and len(tail) >= at64 + 48:
        directory = struct.unpack_from("<Q", tail, at64 + 40)[0]
    if directory > _MAX_DIRECTORY:
        raise ArchiveError("the archive lists too many members")
    archive.seek(0)
