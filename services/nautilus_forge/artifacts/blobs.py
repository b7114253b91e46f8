"""Artifact files on disk: whole or absent.

A file is copied under a temporary name (`begin`, while the gateway still writes the body), synced, renamed, and its
folder synced; only then may a row name it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from nautilus_forge.artifacts import multipart
from nautilus_forge.files import Copy, sync_upwards, telling_of_a_full_disk

_SHARD = 1000


class BlobStore:
    """All calls block on the disk: call them in a thread."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._tmp = data_dir / "tmp"

    def path(self, relative: str) -> Path:
        """Where a blob is. `relative` comes from our own table; anything that leads outside is refused."""
        path = (self._data_dir / relative).resolve()
        if not path.is_relative_to((self._data_dir / "artifacts").resolve()):
            raise ValueError("not an artifact's path")
        return path

    def begin(self, fd: int) -> Copy | None:
        """A copy of the first file in a form that is only just coming in; None for what does not begin as one."""
        start = multipart.first_file(fd)
        return Copy(self._tmp, start) if start is not None else None

    def take(
        self, fd: int, part: multipart.FilePart, *, job_id: int, file_type: str, begun: Copy | None = None
    ) -> str:
        """Copies a part of an open body into the store; returns the path to put into the row.

        `begun`: a copy that was made ahead. Raises `InsufficientStorage`; then nothing is left behind.
        """
        relative = f"artifacts/{job_id // _SHARD}/{job_id}/{file_type}-{secrets.token_hex(8)}"
        final = self._data_dir / relative
        with telling_of_a_full_disk("artifacts"):
            try:
                if begun is not None and begun.start != part.offset:
                    begun.give_up()
                    begun = None
                copy = begun or Copy(self._tmp, part.offset)
                copy.finish(fd, part.length, final, 0o640)
                sync_upwards(final.parent, self._data_dir)
            except OSError:
                final.unlink(missing_ok=True)
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
