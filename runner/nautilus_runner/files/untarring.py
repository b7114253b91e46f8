"""Unpacking a tar archive (plain, gzip, bzip2, xz) as strictly as unpacking.py does a zip, in one pass."""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any

from nautilus_runner.errors import ArchiveError, PathError
from nautilus_runner.files import beneath
from nautilus_runner.files.unpacking import MAX_LINK, Unpacker, safe_parts

_MAX_HEADER = 1 << 20  # bytes of one extended header: it is held in memory
_LATEST = float(1 << 40)


class _BoundedInfo(tarfile.TarInfo):
    """A member whose extended headers may not fill the memory."""

    def _proc_pax(self, tar: Any) -> Any:
        self._refuse_long()
        return super()._proc_pax(tar)  # type: ignore[misc]

    def _proc_gnulong(self, tar: Any) -> Any:
        self._refuse_long()
        return super()._proc_gnulong(tar)  # type: ignore[misc]

    def _refuse_long(self) -> None:
        if self.size > _MAX_HEADER:
            raise ArchiveError("a member's header is too long")


def unpack_tar(archive: IO[bytes], target: Path, limit_bytes: int) -> int:
    """Unpack into `target` (a folder of ours); the number of members. Blocking. Raises ArchiveError."""
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    count = 0
    try:
        unpacker = Unpacker(root, limit_bytes)
        with tarfile.open(fileobj=archive, mode="r|*", tarinfo=_BoundedInfo) as tar:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # a list of millions is not for our memory
                _unpack(tar, member, unpacker, root)
                count += 1
        unpacker.finish()
        return count
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise ArchiveError(f"not a readable tar archive: {error}") from error
    except OSError as error:
        raise ArchiveError(f"can't be unpacked: {error.strerror or error}") from error
    finally:
        os.close(root)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, unpacker: Unpacker, root: int) -> None:
    parts = safe_parts(member.name)
    if not parts:
        return
    mode = stat.S_IMODE(member.mode) & 0o777
    if member.isdir():
        with unpacker.folder(parts):
            unpacker.folder_modes.append((parts, mode or 0o755))
        return
    if not (member.isreg() or member.issym() or member.islnk()):
        return  # devices and pipes
    with unpacker.folder(parts[:-1]) as folder:
        if member.issym():
            if len(member.linkname) > MAX_LINK or "\0" in member.linkname:
                raise ArchiveError(f"{member.name}: the link's target can't be made")
            unpacker.clear(folder, parts[-1], member.name)
            os.symlink(member.linkname, parts[-1], dir_fd=folder)
        elif member.islnk():
            _copy(member, unpacker, root, folder, parts[-1], mode or 0o644)
        else:
            unpacker.clear(folder, parts[-1], member.name)
            content = tar.extractfile(member)
            assert content is not None
            with content:
                mtime_s = member.mtime if 0 <= member.mtime < _LATEST else None
                unpacker.write(content, folder, parts[-1], mode or 0o644, mtime_s)


def _copy(member: tarfile.TarInfo, unpacker: Unpacker, root: int, folder: int, name: str, mode: int) -> None:
    """A hard link becomes a file of its own: what one job could do to it, it does to no other name."""
    try:
        source = beneath.open_beneath(root, "/".join(safe_parts(member.linkname)), os.O_RDONLY)
    except (PathError, OSError) as error:
        raise ArchiveError(f"{member.name}: links to what is not in the archive") from error
    with os.fdopen(source, "rb") as content:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise ArchiveError(f"{member.name}: links to what is no file")
        unpacker.clear(folder, name, member.name)
        unpacker.write(content, folder, name, mode, None)
