"""A job's project folder as something to read: entries with their content, whatever executor it lies in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from nautilus_runner.errors import PathError
from nautilus_runner.files import beneath

_MAX_DEPTH = 128


@dataclass(slots=True)
class TreeEntry:
    """One file, folder or link below the project folder. `content` is only there for files, only until the next."""

    path: str
    mode: int  # with the type bits
    mtime_s: float
    size: int
    link: str = ""
    content: BinaryIO | None = None

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Tree(Protocol):
    """Reading is blocking: call it in a thread."""

    def walk(self, base: str) -> Iterator[TreeEntry]:
        """Everything at and below `base` ("" = all) but the root itself; a base that is not there yields nothing.

        Sockets, devices and pipes are left out.
        """


class DiskTree:
    """A project folder on this machine's disk.

    `anchor` is a folder in which no job can rename anything; `path` leads from it to the project folder.
    `owner`: the job's user, when it is not ours.
    """

    def __init__(self, anchor: Path, path: str, owner: int | None = None) -> None:
        self._anchor = anchor
        self._path = path
        self._owner = owner
        self.refused: list[str] = []

    def walk(self, base: str) -> Iterator[TreeEntry]:
        self.refused = []
        with self._root() as root:
            if not base:
                yield from self._walk(root, "", 0)
                return
            parent, _, name = base.rpartition("/")
            try:
                folder = beneath.open_beneath(root, parent, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                return
            try:
                yield from self._entry(folder, name, base, 0)
            except FileNotFoundError:
                return
            finally:
                os.close(folder)

    @contextmanager
    def _root(self) -> Iterator[int]:
        anchor = os.open(self._anchor, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            root = beneath.open_beneath(anchor, self._path, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(anchor)
        try:
            yield root
        finally:
            os.close(root)

    def _walk(self, folder: int, prefix: str, depth: int) -> Iterator[TreeEntry]:
        for name in sorted(os.listdir(folder)):
            try:
                yield from self._entry(folder, name, f"{prefix}{name}", depth)
            except FileNotFoundError:
                continue  # gone while we looked

    def _entry(self, folder: int, name: str, path: str, depth: int) -> Iterator[TreeEntry]:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        entry = TreeEntry(path, info.st_mode, info.st_mtime, info.st_size)
        if stat.S_ISLNK(info.st_mode):
            entry.link = os.readlink(name, dir_fd=folder)
            yield entry
        elif stat.S_ISDIR(info.st_mode):
            yield entry
            if depth >= _MAX_DEPTH:
                self.refused.append(f"{path}: too deep")
                return
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(name, flags, dir_fd=folder)
            try:
                yield from self._walk(inner, f"{path}/", depth + 1)
            finally:
                os.close(inner)
        elif stat.S_ISREG(info.st_mode):
            yield from self._file(folder, name, entry)

    def _file(self, folder: int, name: str, entry: TreeEntry) -> Iterator[TreeEntry]:
        try:
            fd = beneath.open_regular(folder, name, self._owner)
        except (PathError, PermissionError) as error:
            self.refused.append(f"{entry.path}: {error}")
            return
        with os.fdopen(fd, "rb", buffering=0) as content:
            entry.size = os.fstat(fd).st_size
            entry.content = content
            yield entry
            entry.content = None
