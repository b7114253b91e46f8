"""The places where this runner keeps what it can do without: what lies there, and how one thing of it is removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from nautilus_runner.data.store import Store
from nautilus_runner.files.oldest import files_below, remove_file
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.pruning.plan import Item


class Shelf(Protocol):
    """Blocking. Neither raises: what can't be looked at is not there, what can't be removed stays."""

    def items(self) -> Iterator[Item]: ...

    def remove(self, item: Item) -> bool:
        """False: it is used after all, or could not be removed."""


class DataShelf:
    """Inputs of jobs, and downloads that were not finished."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def items(self) -> Iterator[Item]:
        held = self._store.held()
        for record in self._store.records():
            yield Item(
                "data", record.name, record.size, record.used_at, record.name in held, about=record.url
            )
        for path in self._store.partials():
            with contextlib.suppress(OSError):
                info = path.stat()
                yield Item("partial", path.name, info.st_size, info.st_mtime, self._store.is_active(path))

    def remove(self, item: Item) -> bool:
        if item.kind == "data":
            return self._store.remove(item.name) > 0 or item.size == 0
        path = self._store.folder / "partial" / item.name
        if self._store.is_active(path):
            return False
        self._store.drop_partial(path)
        return True


class FileShelf:
    """Files of one kind below a folder of ours: whoever reads one keeps it until he is done."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        suffix: str = "",
        *,
        is_used: Callable[[str], bool] = lambda _: False,
        remove: Callable[[Path], None] = remove_file,
    ) -> None:
        self.kind = kind
        self._folder = folder
        self._suffix = suffix
        self._is_used = is_used
        self._remove = remove

    def items(self) -> Iterator[Item]:
        for path in files_below(self._folder, self._suffix):
            with contextlib.suppress(OSError):
                info = path.lstat()
                name = str(path.relative_to(self._folder))
                yield Item(self.kind, name, info.st_size, info.st_mtime, self._is_used(path.name))

    def remove(self, item: Item) -> bool:
        path = self._folder / item.name
        if self._is_used(path.name):
            return False
        try:
            self._remove(path)
        except OSError:
            return False
        return True


class WorkTreeShelf:
    """Work trees of process jobs that the journal does not know."""

    def __init__(self, folder: Path, is_known: Callable[[str], bool], end: Callable[[str], None]) -> None:
        self._folder = folder
        self._is_known = is_known
        self._end = end

    def items(self) -> Iterator[Item]:
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if not self._is_known(path.name):
                    with contextlib.suppress(OSError):
                        used_at = path.lstat().st_mtime
                        yield Item("work-tree", path.name, tree_bytes(path), used_at, is_leftover=True)

    def remove(self, item: Item) -> bool:
        if self._is_known(item.name):
            return False
        self._end(item.name)
        remove_tree(self._folder / item.name)
        return not (self._folder / item.name).exists()


def tree_bytes(path: Path) -> int:
    """What a tree takes on its disk; links are not followed."""
    total = 0
    for _path, _folders, files, fd in os.fwalk(path, follow_symlinks=False):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
    return total
