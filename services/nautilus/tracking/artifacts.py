"""Artifacts on disk: names that stay inside, uploads that are whole or absent.

`DATA_DIR/artifacts/<experiment>/<run>/artifacts/…` and `DATA_DIR/artifacts/<experiment>/models/<model>/artifacts/…`,
as in MLflow's artifact URIs. An upload is taken into `DATA_DIR/tmp`, written through to the disk, renamed to its
place, and the folders are written through: only then is it acknowledged. No name is resolved through a symlink: each
folder is opened below the last with O_NOFOLLOW.

All methods block: call them in a thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO
from urllib.parse import unquote

from nautilus.tracking.errors import DiskFull, InvalidParameter, NotFound

MAX_PATH_LENGTH = 3000
MAX_NAME_LENGTH_BYTES = 255
MAX_DEPTH = 64
_DECODINGS = 8
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class FileInfo:
    """`path` is relative to what was listed; `size_bytes` is None for folders."""

    path: str
    size_bytes: int | None

    @property
    def is_dir(self) -> bool:
        return self.size_bytes is None


@dataclass(frozen=True)
class Location:
    """Where an artifact path points: below a run's root or a model's; `inside` are the names below that root."""

    experiment_id: int
    run_id: str | None
    model_id: str | None
    inside: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        owner = (self.run_id,) if self.run_id is not None else ("models", self.model_id or "")
        return (str(self.experiment_id), *owner, "artifacts", *self.inside)


def safe_names(path: str) -> tuple[str, ...]:
    """The names of a relative path, after every layer of percent-encoding is gone (as MLflow does).

    Raises InvalidParameter for whatever could lead elsewhere: `..`, `.`, empty names, backslashes, drive letters,
    `#`, control characters, absolute paths and file URIs.
    """
    decoded = path
    for _ in range(_DECODINGS):
        further = unquote(decoded)
        if further == decoded:
            break
        decoded = further
    else:
        raise _invalid_path()
    if not decoded:
        return ()
    names = tuple(decoded.removesuffix("/").split("/"))
    if (
        len(decoded) > MAX_PATH_LENGTH
        or len(names) > MAX_DEPTH
        or any(name in ("", ".", "..") for name in names)
        or any(character in "\\#\x7f" or ord(character) < 32 for character in decoded)
        or PureWindowsPath(decoded).drive
        or decoded.lower().startswith("file:")
        or not decoded.isprintable()
    ):
        raise _invalid_path()
    if any(len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_LENGTH_BYTES for name in names):
        raise InvalidParameter(f"Invalid path: a name is longer than {MAX_NAME_LENGTH_BYTES} bytes")
    return names


def location(path: str) -> Location:
    """What `<experiment>/<run>/artifacts/…` or `<experiment>/models/<model>/artifacts/…` names.

    Raises InvalidParameter for paths that are unsafe or name neither.
    """
    names = safe_names(path)
    if len(names) >= 3 and names[2] == "artifacts" and names[1] != "models":
        return Location(_number(names[0]), names[1], None, names[3:])
    if len(names) >= 4 and names[1] == "models" and names[3] == "artifacts":
        return Location(_number(names[0]), None, names[2], names[4:])
    raise InvalidParameter(
        "Invalid path: it must be <experiment>/<run>/artifacts/… or <experiment>/models/<model>/artifacts/…"
    )


def _number(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and len(name) <= 18 and str(int(name)) == name):
        raise _invalid_path()
    return int(name)


def _invalid_path() -> InvalidParameter:
    return InvalidParameter("Invalid path")


class ArtifactStore:
    """The files of one data folder. `spool_dir` is where nginx puts request bodies, on the same filesystem."""

    def __init__(self, data_dir: Path, spool_dir: Path) -> None:
        self._root = data_dir / "artifacts"
        self._tmp = data_dir / "tmp"
        self._spool = spool_dir
        self._is_prepared = False

    def prepare(self) -> None:
        """Makes the folders and removes what a crash left half received. The first upload does it, if nobody did."""
        with _disk_errors():
            self._root.mkdir(parents=True, exist_ok=True)
            self._tmp.mkdir(parents=True, exist_ok=True)
        for leftover in self._tmp.glob("artifact-*"):
            leftover.unlink(missing_ok=True)
        self._is_prepared = True

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A new, empty file to receive into; gone afterwards unless it was stored. Raises DiskFull."""
        if not self._is_prepared:
            self.prepare()
        path = self._tmp / f"artifact-{secrets.token_hex(12)}"
        try:
            with _disk_errors():
                path.touch(mode=0o640, exist_ok=False)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def append(self, file: BinaryIO, chunk: bytes) -> None:
        """Raises DiskFull."""
        with _disk_errors():
            file.write(chunk)
            file.flush()

    def take_spooled(self, spooled: str, target: Path) -> None:
        """The body that nginx wrote, as `target`: by another link to it, else by a copy.

        Raises InvalidParameter where the file does not lie in the spool folder, DiskFull.
        """
        path = Path(spooled)
        if ".." in path.parts or not path.is_absolute() or not path.is_relative_to(self._spool):
            raise InvalidParameter("The request's body is not where it should be.")
        try:
            found = path.lstat()
        except OSError as error:
            raise InvalidParameter("The request's body is not where it should be.") from error
        inside = path.parent.resolve().is_relative_to(self._spool.resolve())
        if not stat.S_ISREG(found.st_mode) or not inside:
            raise InvalidParameter("The request's body is not where it should be.")
        target.unlink()
        with _disk_errors():
            try:
                os.link(path, target, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES):
                    raise
                shutil.copyfile(path, target, follow_symlinks=False)

    def store(self, received: Path, where: Location) -> None:
        """Puts a received file in its place, durably. Raises InvalidParameter (a folder is there), DiskFull."""
        if not where.inside:
            raise _invalid_path()
        with _disk_errors():
            with received.open("rb") as file:
                os.fsync(file.fileno())
            with self._folder(where.names[:-1], to_make=True) as folder:
                try:
                    os.rename(received, where.names[-1], dst_dir_fd=folder)
                except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
                    raise InvalidParameter("There is a folder of that name.") from error
                os.fsync(folder)

    def file(self, where: Location) -> tuple[Path, os.stat_result]:
        """A file to send. Raises NotFound, also for folders and anything but plain files."""
        if not where.inside:
            raise _no_artifact()
        with self._folder(where.names[:-1]) as folder:
            try:
                found = os.stat(where.names[-1], dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                raise _no_artifact() from error
        if not stat.S_ISREG(found.st_mode):
            raise _no_artifact()
        return self._root.joinpath(*where.names), found

    def entries(self, where: Location) -> list[FileInfo]:
        """What lies directly in a folder, by name; nothing where there is none (or a file)."""
        try:
            with self._folder(where.names) as folder:
                return sorted(_scan(folder), key=lambda info: info.path)
        except NotFound:
            return []

    def files(self, where: Location, limit: int = 10_000) -> list[FileInfo]:
        """Every file below, with its path from there; at most `limit`."""
        found: list[FileInfo] = []
        waiting: list[tuple[str, ...]] = [()]
        while waiting and len(found) < limit:
            names = waiting.pop()
            try:
                with self._folder((*where.names, *names)) as folder:
                    below = sorted(_scan(folder), key=lambda info: info.path)
            except NotFound:
                continue
            waiting += [(*names, info.path) for info in reversed(below) if info.is_dir]
            found += [
                FileInfo("/".join((*names, info.path)), info.size_bytes) for info in below if not info.is_dir
            ]
        return sorted(found, key=lambda info: info.path)[:limit]

    def delete(self, where: Location) -> None:
        """A file, a folder, or everything of a run or model. Nothing there is fine."""
        names = where.names
        with suppress(NotFound), self._folder(names[:-1]) as folder:
            try:
                found = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(names[-1], dir_fd=folder)
            else:
                os.unlink(names[-1], dir_fd=folder)
            os.fsync(folder)

    def relative(self, path: Path) -> str:
        """A stored file's path below the data folder."""
        return path.relative_to(self._root.parent).as_posix()

    @contextmanager
    def _folder(self, names: tuple[str, ...], *, to_make: bool = False) -> Iterator[int]:
        """A folder below the root, opened step by step without following links. Raises NotFound."""
        try:
            current = os.open(self._root, _FOLDER)
        except FileNotFoundError as error:
            raise _no_artifact() from error
        try:
            for name in names:
                try:
                    if to_make:
                        with suppress(FileExistsError):
                            os.mkdir(name, 0o750, dir_fd=current)
                            os.fsync(current)
                    below = os.open(name, _FOLDER, dir_fd=current)
                except (FileNotFoundError, NotADirectoryError) as error:
                    if to_make:
                        raise InvalidParameter("A file has the name of one of these folders.") from error
                    raise _no_artifact() from error
                except OSError as error:
                    if error.errno == errno.ELOOP:
                        raise _no_artifact() from error
                    raise
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)


def _scan(folder: int) -> Iterator[FileInfo]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield FileInfo(entry.name, None)
            elif entry.is_file(follow_symlinks=False):
                yield FileInfo(entry.name, entry.stat(follow_symlinks=False).st_size)


def _no_artifact() -> NotFound:
    return NotFound("No such artifact")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull("The disk is full; nothing was stored.") from error
        raise
