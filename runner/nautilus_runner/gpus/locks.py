"""Several runners of one machine: who gives out a GPU holds a lock for it that all of them mind.

One file per UUID in a folder of the machine's, with a lock of the kernel's (flock): it is gone with the last process
that holds it, however that ended. A job's supervisor inherits it, so that the GPU stays the job's while the runner is
away. Nothing is ever written to the files, and nobody but their owner can open them: no job can hold or drop a lock.
In a folder that an administrator made for a group or for everybody, they can too. Runners in containers share the
folder by a mount.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

_SAFE = re.compile(r"[^0-9A-Za-z.-]")


class HostLocks:
    """Locks in `folder`; without a folder (None) every GPU is ours alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._has_told = False

    def take(self, uuid: str) -> bool:
        """Hold the lock; False where another runner of this machine has it. Nothing here waits."""
        if uuid in self._held or self._folder is None:
            return True
        try:
            fd = self._open(uuid)
        except PermissionError:
            self._tell(f"{self._folder} is another user's, whose GPUs are not ours to give; see gpu_lock_dir")
            return False
        except OSError as error:
            self._tell(
                f"GPUs can't be kept from other runners of this machine: {self._folder}: {error.strerror}"
            )
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._held[uuid] = fd
        return True

    def drop(self, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            if (fd := self._held.pop(uuid, None)) is not None:
                os.close(fd)

    def files(self, uuids: Iterable[str]) -> tuple[int, ...]:
        """What a job's supervisor inherits to hold on to its GPUs without us."""
        return tuple(self._held[uuid] for uuid in uuids if uuid in self._held)

    def _open(self, uuid: str) -> int:
        assert self._folder is not None
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o755, parents=True)
            self._folder.chmod(0o755)
        path, flags = self._folder / _SAFE.sub("_", uuid), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        for _ in range(2):
            try:
                return os.open(
                    path, flags
                )  # a file of another's in a folder of everybody's can't be opened to create
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                    os.fchmod(fd, 0o600 | _also(self._folder.stat().st_mode))
                    return fd
        raise FileNotFoundError(f"{path} comes and goes")

    def _tell(self, words: str) -> None:
        if not self._has_told:
            log.warning("%s", words)
            self._has_told = True


def _also(folder_mode: int) -> int:
    """Who may write into the folder may open its files."""
    return (0o060 if folder_mode & 0o020 else 0) | (0o006 if folder_mode & 0o002 else 0)
