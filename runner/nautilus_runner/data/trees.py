"""An archive of the store unpacked, once for all jobs, and read-only from the moment that it can be found."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from nautilus_runner.data.store import Store
from nautilus_runner.errors import ArchiveError, DataFailed
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.unpacking import unpack_zip


def unpack(store: Store, sha256: str, shown: str, limit: int, make_room: Callable[[int], None]) -> None:
    """Make trees/<sha256> of blobs/<sha256>. Blocking. Raises DataFailed (no archive, or a hostile one), DiskFull."""
    path = store.path_of(f"blobs/{sha256}") / "content"
    made = store.new_trash()
    try:
        with path.open("rb") as archive:
            is_zip = zipfile.is_zipfile(archive)
            archive.seek(0)
            if is_zip:
                make_room(min(_promised(path), limit))
                unpack_zip(archive, made, limit)
            else:
                make_room(min(os.fstat(archive.fileno()).st_size, limit))
                from nautilus_runner.files.untarring import unpack_tar  # with its libraries, where one comes

                unpack_tar(archive, made, limit)
        size = _seal(made)
        make_room(size)
        store.add_tree(made, sha256, size, shown)
    except ArchiveError as error:
        raise DataFailed(f"{shown} can't be unpacked: {error}") from error
    except OSError as error:
        raise DataFailed(f"{shown} can't be unpacked: {error.strerror or error}") from error
    finally:
        remove_tree(made)


def _promised(path: Path) -> int:
    """What a zip says that it unpacks to; its list of members is bounded when it is unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ArchiveError(f"not a readable zip archive: {error}") from error


def _seal(root: Path) -> int:
    """Everything readable by all and writable by nobody; the bytes that it takes."""
    total = 0
    for _path, _folders, files, fd in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in files:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                os.chmod(name, 0o555 if info.st_mode & 0o100 else 0o444, dir_fd=fd)
                total += max(info.st_size, info.st_blocks * 512)
        os.fchmod(fd, 0o555)
    return total
