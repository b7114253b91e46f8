"""Caches between jobs, as archives on this machine's disk: by server, project and key, bounded in size.

The key is hashed into the file's name, so it can hold anything; a new archive replaces the old one whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from nautilus_runner.files import packing, unpacking
from nautilus_runner.files.oldest import files_below, remove_oldest
from nautilus_runner.files.tree import Tree

_MIB = 1 << 20


class LocalCache:
    """All caches of this runner. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def restore(self, scope: str, keys: Sequence[str], target: Path, limit_bytes: int) -> str | None:
        """Unpack the first archive of `keys` that is there; its key, or None. Raises ArchiveError."""
        for key in keys:
            path = self.path_of(scope, key)
            with contextlib.suppress(FileNotFoundError), path.open("rb") as archive:
                os.utime(path)
                unpacking.unpack_zip(archive, target, limit_bytes)
                return key
        return None

    def save(self, scope: str, key: str, tree: Tree, rules: packing.Rules, limit_mib: int) -> packing.Report:
        """Replace the archive of `key`; with nothing found the old one stays. Oldest used go first beyond the bound."""
        path = self.path_of(scope, key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with part.open("w+b") as out:
                report = packing.pack(tree, rules, out, "zip", "fastest")
            if report.count:
                path.with_suffix(".etag").unlink(missing_ok=True)
                part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        archives = files_below(self._folder, ".zip")
        remove_oldest(archives, limit_mib * _MIB, lambda other: other == path, remove=remove_archive)
        return report

    def etag(self, scope: str, key: str) -> str:
        """Which version of an object elsewhere the archive here is; "" where it is none, or not here."""
        path = self.path_of(scope, key)
        try:
            return path.with_suffix(".etag").read_text() if path.exists() else ""
        except OSError:
            return ""

    def note_etag(self, scope: str, key: str, etag: str) -> None:
        """Blocking, as everything here. Raises OSError."""
        self.path_of(scope, key).with_suffix(".etag").write_text(etag)

    def path_of(self, scope: str, key: str) -> Path:
        names = [hashlib.sha256(text.encode()).hexdigest() for text in (scope, key)]
        return self._folder / names[0][:32] / f"{names[1][:32]}.zip"


def remove_archive(path: Path) -> None:
    """And what is noted beside it."""
    path.unlink(missing_ok=True)
    path.with_suffix(".etag").unlink(missing_ok=True)
