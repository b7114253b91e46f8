"""Checkpoints on this machine's disk: one archive for each job by name, the newest attempt's.

    <data_dir>/checkpoints/<hash of server, project, run and name>/<job id>.zip

A job id is greater than those of all attempts before it, so the greatest is the newest, here and at Nautilus.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from pathlib import Path

from nautilus_runner.files import packing
from nautilus_runner.files.oldest import files_below, remove_oldest
from nautilus_runner.files.tree import Tree

FOLDER = ".nautilus/checkpoint"
"""In the project folder."""
VARIABLE = "NAUTILUS_CHECKPOINT_DIR"
_MIB = 1 << 20
_KEEP_S = 14 * 86400.0
_NAME = re.compile(r"^(\d{1,19})\.zip$")


class CheckpointStore:
    """All checkpoints of this runner. Blocking. `scope` says whose: never shown, hashed into the folder's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, scope: str) -> tuple[int, Path] | None:
        """(job id, archive) of the newest attempt that left one."""
        found = [
            (int(match[1]), path)
            for path in self._of(scope).glob("*.zip")
            if (match := _NAME.match(path.name))
        ]
        return max(found, default=None)

    def save(self, scope: str, job_id: int, tree: Tree, limit_mib: int) -> Path | None:
        """Pack the checkpoint folder of a job's tree; None where there are no files in it.

        The archives of earlier attempts go once the new one is on disk. Raises OSError, ArchiveError.
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

    def _of(self, scope: str) -> Path:
        return self._folder / hashlib.sha256(scope.encode()).hexdigest()[:32]

    def _prune(self, limit_bytes: int, newest: Path) -> None:
        """Those that nobody came for in two weeks, then the oldest beyond the bound."""
        remove_oldest(
            files_below(self._folder, ".zip"),
            limit_bytes,
            lambda path: path == newest,
            stale_before=time.time() - _KEEP_S,
            remove=_remove,
        )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
