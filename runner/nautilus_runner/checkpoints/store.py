"""Checkpoints on this machine's disk: one archive for each job by name, the newest attempt's.

    <data_dir>/checkpoints/<hash of server, project, run and name>/<job id>.zip
                                                                   <job>.claim      that attempt began from it
                                                                   settled          nobody tries again by himself

A job id is greater than those of all attempts before it, so the greatest is the newest, here and at Nautilus.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.files import packing
from nautilus_runner.files.oldest import files_below, remove_oldest
from nautilus_runner.files.tree import Tree

FOLDER = ".nautilus/checkpoint"
"""In the project folder."""
VARIABLE = "NAUTILUS_CHECKPOINT_DIR"
_MIB = 1 << 20
_KEEP_S = 14 * 86400.0
_SETTLED_S = 86400.0  # so long after an end of its own making a job may still be asked for again
_CLAIM, _PART, _SETTLED = ".claim", ".part", "settled"
_PART_S = 3600.0
_NAME = re.compile(r"^(\d{1,19})\.zip$")


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of ours, for pruning. `is_needed`: by an attempt that runs, or one that may still come; `is_over`: nobody
    came for it in two weeks, or it is what a killed runner left."""

    name: str
    size: int  # bytes
    written_at: float
    is_needed: bool
    is_over: bool


class CheckpointStore:
    """All checkpoints of this runner. Blocking. `scope` says whose: never shown, hashed into the folder's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def claim(self, scope: str, key: str) -> tuple[int, Path] | None:
        """As `newest`, for a job that begins from it: it stays as long as the journal has the job's key."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            (self._of(scope) / f"{key}{_CLAIM}").touch(mode=0o600)
        return self.newest(scope)

    def newest(self, scope: str) -> tuple[int, Path] | None:
        """(job id, archive) of the newest attempt that left one."""
        found = [
            (int(match[1]), path)
            for path in self._of(scope).glob("*.zip")
            if (match := _NAME.match(path.name))
        ]
        return max(found, default=None)

    def save(
        self, scope: str, job_id: int, tree: Tree, limit_mib: int, *, is_settled: bool = False
    ) -> Path | None:
        """Pack the checkpoint folder of a job's tree; None where there are no files in it.

        `is_settled`: the attempt's end was its own making, or somebody's wish. The archives of earlier attempts go
        once the new one is on disk. Raises OSError, ArchiveError.
        """
        folder = self._of(scope)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{job_id}.zip"
        part = folder / f"{job_id}.{os.getpid()}.part"
        try:
            with part.open("w+b") as out:
                report = packing.pack(tree, packing.Rules("", (f"{FOLDER}/**",)), out, "zip", "fastest")
                out.flush()
                os.fsync(out.fileno())
            if report.count == 0:
                return None
            settled = folder / _SETTLED
            settled.touch() if is_settled else settled.unlink(missing_ok=True)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        for earlier in folder.glob("*.zip"):
            if earlier != path:
                earlier.unlink(missing_ok=True)
        self._prune(limit_mib * _MIB, path)
        return path

    def forget(self, scope: str) -> None:
        """The job succeeded: nobody goes on from there."""
        shutil.rmtree(self._of(scope), ignore_errors=True)

    def kept(self, is_known: Callable[[str], bool]) -> Iterator[Kept]:
        """All that is here; claims of jobs that are over go."""
        for folder in self._folder.glob("*/"):
            is_claimed = self._is_claimed(folder, is_known)
            for path in (*folder.glob("*.zip"), *folder.glob(f"*{_PART}")):
                with contextlib.suppress(FileNotFoundError):
                    yield _kept(path, is_claimed)

    def remove(self, name: str, is_known: Callable[[str], bool]) -> bool:
        """False: it is needed after all."""
        path = self._folder / name
        with self._lock:
            try:
                found = _kept(path, self._is_claimed(path.parent, is_known))
            except FileNotFoundError:
                return True
            if found.is_needed:
                return False
            path.unlink(missing_ok=True)
            if not any(path.parent.glob("*.zip")):
                (path.parent / _SETTLED).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.parent.rmdir()
        return True

    def _is_claimed(self, folder: Path, is_known: Callable[[str], bool]) -> bool:
        found = False
        for claim in folder.glob(f"*{_CLAIM}"):
            if is_known(claim.name.removesuffix(_CLAIM)):
                found = True
            else:
                claim.unlink(missing_ok=True)
        return found

    def _of(self, scope: str) -> Path:
        return self._folder / hashlib.sha256(scope.encode()).hexdigest()[:32]

    def _prune(self, limit_bytes: int, newest: Path) -> None:
        """Those that nobody came for in two weeks, then the oldest beyond the bound."""
        remove_oldest(
            files_below(self._folder, ".zip"),
            limit_bytes,
            lambda path: path == newest or any(path.parent.glob(f"*{_CLAIM}")),
            stale_before=time.time() - _KEEP_S,
            remove=_remove,
        )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    (path.parent / _SETTLED).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _kept(path: Path, is_claimed: bool) -> Kept:
    """Raises FileNotFoundError."""
    info = path.stat()
    age_s = time.time() - info.st_mtime
    if path.suffix == _PART:
        is_over = age_s > _PART_S
        needed = not is_over
    else:
        is_over = age_s > _KEEP_S and not is_claimed
        may_come = age_s <= (_SETTLED_S if (path.parent / _SETTLED).exists() else _KEEP_S)
        needed = is_claimed or may_come
    return Kept(f"{path.parent.name}/{path.name}", info.st_size, info.st_mtime, needed, is_over)
