"""What inputs this machine has: by content, with who uses what, the ones used longest ago removed first.

    <data_dir>/data/blobs/<sha256>/content   a file as it was fetched
                    trees/<sha256>/          an archive of that hash, unpacked
                    records/<kind>-<sha256>  JSON: size, address, what the file was when it was put there
                    sources/<hash>           JSON: which content an address had, for whom
                    leases/<job>             JSON: what a job uses; written before it does
                    partial/<hash>[.json]    downloads under way
                    trash/                   on its way out

Jobs can pass through to what they know the hash of, and list nothing. What is in it belongs to us and is
read-only.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.files.removal import remove_tree

_FOLDERS = ("blobs", "trees", "records", "sources", "leases", "partial", "trash")


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that is kept. `mark`: inode, size and times of a blob's file: they tell when somebody changed it."""

    name: str  # blobs/<sha256> or trees/<sha256>
    size: int  # bytes
    used_at: float
    url: str = ""
    mark: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What an address had when it was last asked."""

    sha256: str
    size: int
    etag: str = ""


class Store:
    """Blocking, and safe to use from several threads of this process; the data folder's lock keeps others out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._is_ready = False
        self.active: set[str] = set()
        """The names of partial downloads that are under way."""

    def open(self) -> None:
        """Make the folders; what a killed runner left half removed goes. Raises OSError."""
        if self._is_ready:
            return
        for name in ("", *_FOLDERS):
            path = self.folder / name
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o711 if name in ("", "blobs", "trees") else 0o700)
        for left in list((self.folder / "trash").iterdir()):
            remove_tree(left)
        self._is_ready = True

    # ---- content

    def path_of(self, name: str) -> Path:
        return self.folder / name

    def find(self, name: str) -> Record | None:
        """The record of what is there whole and unchanged; anything else of that name is removed."""
        record = self._read(name)
        if record is None:
            return None
        path = self.path_of(name)
        is_whole = _mark(path / "content") == record.mark if name.startswith("blobs/") else path.is_dir()
        if not is_whole:
            self._discard(name)
            return None
        return record

    def hold(self, job: str, name: str) -> bool:
        """Keep a thing from being removed while `job` lives; False where it is not there (any longer)."""
        with self._lock:
            if self.find(name) is None:
                return False
            lease = self.folder / "leases" / job
            held = set(_names(lease)) | {name}
            _write(lease, sorted(held))
            os.utime(self._record_path(name))
        return True

    def release(self, job: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            (self.folder / "leases" / job).unlink(missing_ok=True)

    def release_unknown(self, is_known: Callable[[str], bool]) -> None:
        """Leases of jobs that the journal does not have (any more)."""
        if (self.folder / "leases").is_dir():
            for lease in list((self.folder / "leases").glob("*")):
                if not is_known(lease.name):
                    lease.unlink(missing_ok=True)

    def add_blob(self, part: Path, sha256: str, url: str) -> None:
        """Take a finished download over. Raises OSError."""
        name = f"blobs/{sha256}"
        with self._lock:
            if self.find(name) is not None:
                part.unlink(missing_ok=True)
                return
            target = self.path_of(name)
            target.mkdir(mode=0o700, exist_ok=True)
            part.chmod(0o444)
            part.rename(target / "content")
            target.chmod(0o555)
            size = (target / "content").stat().st_size
            self._record(Record(name, size, time.time(), url, _mark(target / "content")))

    def add_tree(self, made: Path, sha256: str, size: int, url: str) -> None:
        """Take an unpacked folder over, which is read-only by now. Raises OSError."""
        name = f"trees/{sha256}"
        with self._lock:
            if self.find(name) is not None:
                self._to_trash(made)
            else:
                made.chmod(0o755)  # only who may write a folder may move it
                made.rename(self.path_of(name))
                self.path_of(name).chmod(0o555)
                self._record(Record(name, size, time.time(), url))
        self.empty_trash()

    # ---- room

    def records(self) -> list[Record]:
        """Everything that is kept, used longest ago first."""
        found = [self._read(path.name.replace("-", "/", 1)) for path in (self.folder / "records").glob("*")]
        return sorted((record for record in found if record is not None), key=lambda record: record.used_at)

    def held(self) -> frozenset[str]:
        return frozenset(n for lease in (self.folder / "leases").glob("*") for n in _names(lease))

    def remove(self, name: str) -> int:
        """Remove one thing unless a job holds it; the bytes that it took, 0 where it stays."""
        with self._lock:
            record = self._read(name)
            if record is None or name in self.held():
                return 0
            self._discard(name)
        self.empty_trash()
        return record.size

    def make_room(self, size: int, limit: int) -> int:
        """Remove what was used longest ago until `size` more bytes fit below `limit`; how many bytes do not fit.

        Where they never will nothing is removed.
        """
        over = sum(record.size for record in self.records()) + size - limit
        return self.free(over) if over > 0 else 0

    def free(self, wanted: int) -> int:
        """Remove what was used longest ago until so many bytes are free; how many are lacking, and then none went."""
        held = self.held()
        records = [record for record in self.records() if record.name not in held]
        if (lacking := wanted - sum(record.size for record in records)) > 0:
            return lacking
        for record in records:
            if wanted <= 0:
                break
            wanted -= self.remove(record.name)
        return max(0, wanted)

    def partials(self) -> list[Path]:
        """Downloads that are not whole: under way, or left by an earlier runner."""
        return [path for path in (self.folder / "partial").glob("*") if path.suffix != ".json"]

    def is_active(self, path: Path) -> bool:
        """Whether a download of this process writes it."""
        return path.name in self.active

    def drop_partial(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)

    def new_trash(self) -> Path:
        """A fresh folder that vanishes with the next `empty_trash` of a killed runner's successor."""
        path = self.folder / "trash" / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        return path

    def empty_trash(self) -> None:
        for path in list((self.folder / "trash").glob("old-*")):
            remove_tree(path)

    # ---- addresses

    def known(self, key: str) -> Known | None:
        said = _json(self.folder / "sources" / key)
        return Known(said["sha256"], said["size"], said.get("etag", "")) if isinstance(said, dict) else None

    def learn(self, key: str, known: Known) -> None:
        _write(self.folder / "sources" / key, asdict(known))

    # ---- inside

    def _record_path(self, name: str) -> Path:
        return self.folder / "records" / name.replace("/", "-", 1)

    def _record(self, record: Record) -> None:
        said = {"size": record.size, "url": record.url, "mark": list(record.mark)}
        _write(self._record_path(record.name), said)

    def _read(self, name: str) -> Record | None:
        path = self._record_path(name)
        said = _json(path)
        if not isinstance(said, dict):
            return None
        try:
            used_at = path.stat().st_mtime
        except FileNotFoundError:
            return None
        return Record(name, said["size"], used_at, said["url"], tuple(said["mark"]))

    def _discard(self, name: str) -> None:
        self._record_path(name).unlink(missing_ok=True)
        self._to_trash(self.path_of(name))

    def _to_trash(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.chmod(0o700)  # a folder that can't be written can't be renamed by others than root
            path.rename(self.folder / "trash" / f"old-{secrets.token_hex(8)}")


def _mark(path: Path) -> tuple[int, ...]:
    try:
        info = path.lstat()
    except OSError:
        return ()
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _names(lease: Path) -> Iterable[str]:
    said = _json(lease)
    return [str(name) for name in said] if isinstance(said, list) else []


def _json(path: Path) -> Any:
    """None where there is no such file, or none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: Any) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(json.dumps(content).encode())
    part.rename(path)
