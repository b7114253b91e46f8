"""How much disk is free, and how much of that is kept so."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from nautilus_runner.errors import DiskFull

MIB = 1 << 20


def free_bytes(path: Path) -> int:
    """What an ordinary user could still write on the disk of `path`. Raises OSError."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def mib(size: float) -> str:
    """A size for people."""
    if size < 1 << 20:
        return f"{size:.0f} B" if size < 1024 else f"{size / 1024:.0f} KiB"
    if size < 10 * MIB:
        return f"{size / MIB:.1f} MiB"
    return f"{size / MIB:.0f} MiB" if size < 10240 * MIB else f"{size / MIB / 1024:.1f} GiB"


@dataclass(slots=True)
class Reserve:
    """What is kept free on the disks of `folders`; those that are not there are not looked at."""

    folders: tuple[Path, ...] = ()
    reserve_bytes: int = 0
    is_short: bool = field(default=False)
    """The last look found less than that: somebody should make room."""

    def missing(self) -> tuple[int, Path | None]:
        """How many bytes the worst of the disks lacks, and which folder is on it."""
        worst: tuple[int, Path | None] = (0, None)
        for folder in self.folders:
            try:
                lacking = self.reserve_bytes - free_bytes(folder)
            except OSError:
                continue
            if lacking > worst[0]:
                worst = (lacking, folder)
        self.is_short = worst[1] is not None
        return worst

    def check(self) -> None:
        """Raises DiskFull with the numbers: no job is taken then."""
        lacking, folder = self.missing()
        if folder is not None:
            free = self.reserve_bytes - lacking
            raise DiskFull(
                f"disk: {mib(free)} are free at {folder}, below the reserve of {mib(self.reserve_bytes)}; "
                "no job is taken"
            )

    def spend(self, folder: Path, size: int) -> int:
        """How many bytes are lacking for `size` more at `folder`, above the reserve; 0: it fits."""
        return max(0, size + self.reserve_bytes - free_bytes(folder))
