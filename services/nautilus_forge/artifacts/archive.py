"""One file out of a stored zip archive. Nothing is ever unpacked to disk.

Source: GitLab lib/gitlab/ci/build/artifacts/path.rb, workhorse's `artifacts-entry`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nautilus_forge.artifacts.errors import BrokenArchive
from nautilus_forge.errors import NotFound

if TYPE_CHECKING:
    from zipfile import ZipFile

_MAX_DIRECTORY = 64 << 20
_CHUNK = 256 << 10


def is_valid_path(path: str) -> bool:
    """Whether `path` can name a file in an archive: relative, and without a way out."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not path.endswith("/") and ".." not in parts and parts[0] != ""


class Entry:
    """An open entry of an archive: its size in bytes, and its content in pieces. Close it. Blocking."""

    def __init__(self, archive: Path, name: str) -> None:
        """Raises `NotFound`, `BrokenArchive`."""
        self._zip = _open(archive)
        try:
            info = self._zip.getinfo(name)
            self.size = info.file_size
            self._stream = self._zip.open(info)
        except KeyError as error:
            self._zip.close()
            raise NotFound() from error
        except (RuntimeError, NotImplementedError, ValueError, OSError) as error:
            self._zip.close()
            raise BrokenArchive("the entry cannot be read") from error

    def chunks(self) -> Iterator[bytes]:
        """The content. Stops where the archive is broken; never yields more than `size` bytes."""
        import zipfile
        import zlib

        left = self.size
        try:
            while left > 0 and (chunk := self._stream.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError):
            return

    def close(self) -> None:
        self._stream.close()
        self._zip.close()


def _open(archive: Path) -> ZipFile:
    import zipfile

    try:
        if _directory_size(archive) > _MAX_DIRECTORY:
            raise BrokenArchive("the archive has too many entries")
        return zipfile.ZipFile(archive)
    except FileNotFoundError as error:
        raise NotFound() from error
    except (zipfile.BadZipFile, struct.error, ValueError, OverflowError) as error:
        raise BrokenArchive("the archive cannot be read") from error


def _directory_size(archive: Path) -> int:
    """Bytes of the central directory as the archive's end record tells it, before anything is read into memory."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 65_557))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise BrokenArchive("the archive cannot be read")
    (directory,) = struct.unpack_from("<I", tail, end + 12)
    wide = tail.rfind(b"PK\x06\x06")
    if directory == 0xFFFFFFFF and wide >= 0:
        (directory,) = struct.unpack_from("<Q", tail, wide + 40)
    return int(directory)
