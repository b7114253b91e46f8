"""Artifact files on disk: whole or absent.

A file is copied under a temporary name, synced, renamed, and its folder synced; only then may a row name it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nautilus_forge.errors import InsufficientStorage
from nautilus_forge.files import copy_range, is_disk_full, sync_upwards

_SHARD = 1000


class BlobStore:
    """All calls block on the disk: call them in a thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def path(self, relative: str) -> Path:
        """Where a blob is. `relative` comes from our own table; anything that leads outside is refused."""
        path = (self._data_dir / relative).resolve()
        if not path.is_relative_to((self._data_dir / "artifacts").resolve()):
            raise ValueError("not an artifact's path")
        return path

    def take(self, source_fd: int, offset: int, length: int, *, job_id: int, file_type: str) -> str:
        """Copies a part of an open file into the store, inside the kernel; returns the path to put into the row.

        Raises `InsufficientStorage`; then nothing is left behind.
        """
        relative = f"artifacts/{job_id // _SHARD}/{job_id}/{file_type}-{secrets.token_hex(8)}"
        final = self._data_dir / relative
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.partial")
        try:
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                copy_range(source_fd, offset, length, fd)
                os.fsync(fd)
            finally:
                os.close(fd)
            partial.rename(final)
            sync_upwards(final.parent, self._data_dir)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if is_disk_full(error):
                raise InsufficientStorage("No space left for artifacts") from error
            raise
        return relative

    def remove(self, relative: str) -> None:
        """Deletes a blob and the folder that it leaves empty. What is gone already is fine."""
        path = self.path(relative)
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            return
