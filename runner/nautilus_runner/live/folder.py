"""A job's project folder, as somebody may look into it while the job runs.

Paths are relative to the project folder, with `/`; none leads out of it or through a symbolic link. What is looked at
changes meanwhile: a listing is of a moment, and a file that is read is as long as it was when it was opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from nautilus_runner.errors import LiveRefused, PathError
from nautilus_runner.files import beneath

MAX_ITEMS = 10_000
PART = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a folder. `kind`: file, folder, link, or other (pipe, socket, device: never opened)."""

    name: str
    kind: str
    size: int
    modified_at: float
    link: str = ""

    def as_json(self) -> dict[str, Any]:
        found = {
            "name": printable(self.name),
            "kind": self.kind,
            "size_bytes": self.size,
            "modified_at": self.modified_at,
        }
        return found | ({"link": printable(self.link)} if self.link else {})


@dataclass(frozen=True, slots=True)
class Listing:
    """`is_cut`: there is more than was looked at."""

    items: list[Item]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A file from `offset` to the end that it had when it was opened. `content` is blocking."""

    item: Item
    content: BinaryIO


class Writing(Protocol):
    """A file on its way into a folder: nothing of it is seen there before `finish`. Blocking; raises as the folder."""

    def add(self, data: bytes) -> None: ...

    def finish(self) -> Item:
        """Put it in place, whole and at once."""

    def close(self) -> None:
        """Comes last, whatever happened; what is not finished is gone."""


class LiveFolder(Protocol):
    """Everything is blocking (call it in a thread) and raises LiveRefused or OSError."""

    def list(self, path: str) -> Listing:
        """What is in a folder, by name; "" is the project folder."""

    def look(self, path: str) -> Item:
        """What a path is, without following it."""

    def open(self, path: str, offset: int) -> Opened:
        """A regular file, from `offset` on; the caller closes `content`."""

    def write(self, path: str) -> Writing:
        """Begin a file that will be the job's user's, in place of one of that name."""


class DiskFolder:
    """A project folder on this machine's disk: `path` below `anchor`, in which no job can rename anything.

    `user`: the job's (uid, gid), when it is not ours.
    """

    def __init__(self, anchor: Path, path: str, user: tuple[int, int] | None = None) -> None:
        self._anchor = anchor
        self._path = path
        self._user = user

    def list(self, path: str) -> Listing:
        with self._opened(path) as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - a descriptor
            found = (_seen(folder, name) for name in names[:MAX_ITEMS])
            return Listing([item for item in found if item is not None], len(names) > MAX_ITEMS)

    def look(self, path: str) -> Item:
        parent, name = split(path)
        with self._opened(parent) as folder:
            item = _seen(folder, name or ".")
        if item is None:
            raise no_such(path)
        return item

    def open(self, path: str, offset: int) -> Opened:
        parent, name = split(path)
        owner = self._user[0] if self._user else None
        with self._opened(parent) as folder, _explained(path):
            if not name or stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise LiveRefused("is_folder", f"{path or 'the project folder'} is a folder")
            fd = beneath.open_regular(folder, name, owner)
            info = os.fstat(fd)
            os.lseek(fd, offset, os.SEEK_SET)
        return Opened(_item(name, info), os.fdopen(fd, "rb", buffering=0))

    def write(self, path: str) -> Writing:
        parent, name = split(path)
        if not name:
            raise LiveRefused("bad_path", "the path names no file")
        with self._opened(parent) as folder, _explained(path):
            before = _seen(folder, name)
            if before is not None and before.kind != "file":
                raise LiveRefused("bad_path", f"{path} is no file: it can't be replaced")
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode if before else 0o644
            return _DiskWriting(os.dup(folder), name, mode & 0o777, self._user)

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A folder of the tree. Raises LiveRefused."""
        anchor = os.open(self._anchor, _FOLDER | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            root = beneath.open_beneath(anchor, self._path, _FOLDER)
        finally:
            os.close(anchor)
        try:
            with _explained(path):
                folder = beneath.open_beneath(root, path, _FOLDER)
        finally:
            os.close(root)
        try:
            yield folder
        finally:
            os.close(folder)


class _DiskWriting:
    """`folder` is a descriptor, which is ours to close."""

    def __init__(self, folder: int, name: str, mode: int, user: tuple[int, int] | None) -> None:
        self._folder = folder
        self._name = name
        self._mode = mode
        self._user = user
        self._part = f".nautilus-{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(self._part, flags, 0o600, dir_fd=folder), "wb", buffering=0)
        except OSError:
            os.close(folder)
            raise

    def add(self, data: bytes) -> None:
        view = memoryview(data)
        with _explained(self._name):
            while view:
                view = view[self._file.write(view) :]

    def finish(self) -> Item:
        fd = self._file.fileno()
        with _explained(self._name):
            if self._user is not None:
                os.fchown(fd, *self._user)
            os.fchmod(fd, self._mode)
            os.rename(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._part = ""
        return _item(self._name, os.fstat(fd))

    def close(self) -> None:
        self._file.close()
        if self._part:
            with contextlib.suppress(OSError):
                os.unlink(self._part, dir_fd=self._folder)
        os.close(self._folder)


def split(path: str) -> tuple[str, str]:
    """Parent and name of a path of the tree. Raises LiveRefused for one that leads out."""
    if path.startswith("/") or "\0" in path:
        raise LiveRefused("bad_path", f"{printable(path)!r} is no path below the project folder")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LiveRefused("bad_path", f"{printable(path)} leads out of the project folder")
    return "/".join(parts[:-1]), parts[-1] if parts else ""


def no_such(path: str) -> LiveRefused:
    return LiveRefused("not_found", f"there is no {printable(path)} in the job's folder")


def printable(name: str) -> str:
    """A name as text: what is not UTF-8 in it becomes U+FFFD."""
    return os.fsencode(name).decode(errors="replace")


def kind_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def _seen(folder: int, name: str) -> Item | None:
    """None where it is gone by now."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        link = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(info.st_mode) else ""
    except OSError:
        return None
    return _item(name, info, link)


def _item(name: str, info: os.stat_result, link: str = "") -> Item:
    kind = kind_of(info.st_mode)
    return Item(name, kind, info.st_size if kind == "file" else 0, info.st_mtime, link)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What the system says about a path, as LiveRefused."""
    try:
        yield
    except FileNotFoundError as error:
        raise no_such(path) from error
    except PathError as error:
        raise LiveRefused("bad_path", printable(str(error))) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LiveRefused("storage_full", "the machine that runs the job has no room for it") from error
        said = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror or type(error).__name__
        raise LiveRefused("bad_path", f"{printable(path)}: {said}") from error
