"""The folder of one process job: made by the runner, handed over once, read with care from then on."""

from __future__ import annotations

import os
from pathlib import Path

from nautilus_runner.clone_path import project_path
from nautilus_runner.executors import processes
from nautilus_runner.executors.base import Context, Place
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.tree import DiskTree, Tree
from nautilus_runner.live.folder import DiskFolder, LiveFolder
from nautilus_runner.usage.host import folder_bytes


class JobFolder:
    """Below `builds`, by the job's key; all of it goes with the job."""

    def __init__(self, context: Context, builds: Path) -> None:
        self._context = context  # its variables come later
        self._relative = project_path(context.job)
        self.home = builds / context.key
        self.project = self.home / self._relative

    def place(self) -> Place:
        return Place(str(self.home), str(self.project), is_shared=True)

    def stage(self) -> Path:
        remove_tree(self.home)
        self.home.mkdir(mode=0o700)
        for folder in (self.project, self._tmp, self.home / ".home", self.home / ".tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.project

    def hand_over(self, account: processes.Account) -> None:
        """Write the file variables, and make all the account's. Blocking."""
        for name, content in self._context.variables.files().items():
            fd = os.open(self._tmp / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content.encode(errors="replace"))
        if account.uid is None or account.gid is None:
            return
        for _path, folders, files, fd in os.fwalk(self.home, follow_symlinks=False):
            for name in (*folders, *files):
                os.chown(name, account.uid, account.gid, dir_fd=fd, follow_symlinks=False)
        os.chown(self.home, account.uid, account.gid, follow_symlinks=False)

    def environment(self, account: processes.Account) -> dict[str, str]:
        """What tells a script whose it is, and where."""
        return {
            "HOME": str(self.home / ".home"),
            "TMPDIR": str(self.home / ".tmp"),
            "USER": account.name,
            "LOGNAME": account.name,
        }

    def tree(self, account: processes.Account) -> Tree:
        return DiskTree(self.home, self._relative, account.uid)

    def live(self, account: processes.Account) -> LiveFolder:
        user = None if account.uid is None or account.gid is None else (account.uid, account.gid)
        return DiskFolder(self.home, self._relative, user)

    def size(self) -> int:
        """Bytes on disk. Blocking, maybe for long."""
        return folder_bytes(self.home)

    def remove(self) -> None:
        remove_tree(self.home)

    @property
    def _tmp(self) -> Path:
        return Path(f"{self.project}.tmp")
