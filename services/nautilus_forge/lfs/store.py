"""The files of LFS objects: content-addressed, each whole or absent. All calls block: call them in a thread."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nautilus_forge.files import Copy, is_disk_full, sync_upwards, telling_of_a_full_disk
from nautilus_forge.lfs.hashing import Hashing
from nautilus_forge.spool import Body

FOLDER = "lfs-objects"
_SPARE = 64 << 20
"""Room that an upload leaves on the disk, in bytes."""


class LfsStore:
    """Files below `data_dir/lfs-objects`, in folders by the first digits of the object's id, as GitLab has them.

    A file's name ends in random digits: a new upload never meets the file of an object that is just being deleted.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def new_path(self, oid: str) -> str:
        """Where a new file for the object may be put, below the data folder."""
        return f"{FOLDER}/{oid[:2]}/{oid[2:4]}/{oid[4:]}-{secrets.token_hex(4)}"

    def path(self, relative: str) -> Path:
        """Raises ValueError for what our own tables cannot have said."""
        path = self._data_dir / relative
        if not relative.startswith(f"{FOLDER}/") or ".." in path.parts:
            raise ValueError("not the path of an LFS object")
        return path

    def has(self, relative: str, size: int) -> bool:
        try:
            return self.path(relative).stat().st_size == size
        except OSError:
            return False

    def has_room(self, size: int) -> bool:
        """Is there room for so many bytes more?"""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._data_dir)
        return size + _SPARE <= disk.f_bavail * disk.f_frsize

    def is_what_it_says(self, body: Body, oid: str, size: int, begun: Hashing | None = None) -> bool:
        """Has the body this size and this SHA-256? `begun`: the hash of its first part, where that is known."""
        if body.size != size:
            return False
        hashing = begun or Hashing()
        hashing.go_on(body.fd)
        return hashing.offset == size and hashing.digest.hexdigest() == oid

    def write_out(self, body: Body) -> None:
        """The bytes are on the disk when this returns. Raises `InsufficientStorage`."""
        with telling_of_a_full_disk("LFS objects"):
            os.fsync(body.fd)

    def take(self, body: Body, relative: str) -> None:
        """The body becomes the file: by a link where it can, else by a copy. Durable when this returns, and not before:
        the name comes first, so that the disk has to be waited for once.

        Raises `InsufficientStorage`; then nothing is left behind.
        """
        final = self.path(relative)
        with telling_of_a_full_disk("LFS objects"):
            try:
                self._put(body, final)
            except OSError:
                final.unlink(missing_ok=True)
                raise

    def _put(self, body: Body, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(body.path, final, follow_symlinks=False)
            final.chmod(0o440)
        except OSError as error:
            if is_disk_full(error):
                raise
            self._copy(body, final)
        else:
            os.fsync(body.fd)
        sync_upwards(final.parent, self._data_dir)

    def _copy(self, body: Body, final: Path) -> None:
        """The spool folder lies on another filesystem, or its files are somebody else's."""
        Copy(self._data_dir / "tmp", 0).finish(body.fd, body.size, final, 0o440)

    def remove(self, relative: str) -> None:
        """Deletes a file, and the folders that it leaves empty. What is gone already is fine."""
        path = self.path(relative)
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            try:
                folder.rmdir()
            except OSError:
                return
