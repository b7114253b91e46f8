"""Control groups of process jobs: limits that the kernel keeps, and its own account of what a job used.

Version 2 (the unified hierarchy) where it has the controllers, else version 1, each controller by itself. Who is
neither root nor was given a part of the tree makes no groups; limits are then watched (usage/meter.py).
Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst; systemd, CGROUP_DELEGATION.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.limits import Limits

_MIB = 1 << 20
_PERIOD_US = 100_000
FACTS = (
    "memory.events",
    "memory.events.local",
    "memory.peak",
    "memory.oom_control",
    "memory.max_usage_in_bytes",
    "pids.events",
    "cpu.stat",
    "cpuacct.usage",
)
"""What the warden copies from a group before it removes it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The kernel's last words about a group that is gone."""

    oom_kills: int = 0
    own_ooms: int | None = None  # how often its own limit was the reason; None: not told
    memory_peak_bytes: int = 0
    pids_refused: int = 0
    cpu_s: float = 0.0

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Facts:
        events = table(files.get("memory.events", "") or files.get("memory.oom_control", ""))
        local = table(files.get("memory.events.local", ""))
        peak = files.get("memory.peak") or files.get("memory.max_usage_in_bytes") or "0"
        cpu_s = table(files.get("cpu.stat", "")).get("usage_usec", 0) / 1e6
        if not cpu_s and (nanoseconds := files.get("cpuacct.usage", "").strip()).isdigit():
            cpu_s = int(nanoseconds) / 1e9
        return cls(
            oom_kills=events.get("oom_kill", 0),
            own_ooms=local.get("oom") if local else None,
            memory_peak_bytes=int(peak.strip()) if peak.strip().isdigit() else 0,
            pids_refused=table(files.get("pids.events", "")).get("max", 0),
            cpu_s=cpu_s,
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """What a group uses now; None: the group does not tell."""

    cpu_s: float | None
    memory_bytes: int | None
    pids: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """One script's group: a folder, or with version 1 one for each controller."""

    folders: tuple[Path, ...]

    def limit(self, limits: Limits) -> tuple[str, ...]:
        """Set the limits; the names of those that this group can't keep are returned."""
        missing = []
        if limits.memory_mib and not self._limit_memory(limits.memory_mib * _MIB):
            missing.append("memory")
        if limits.pids and not self._write("pids.max", str(limits.pids)):
            missing.append("pids")
        if limits.cpus:
            quota = str(max(1000, int(limits.cpus * _PERIOD_US)))
            kept = self._write("cpu.max", f"{quota} {_PERIOD_US}") or self._write("cpu.cfs_quota_us", quota)
            if not kept:
                missing.append("cpus")
        return tuple(missing)

    def _limit_memory(self, limit: int) -> bool:
        """No swap beside it: what is swapped out would not be counted. A job dies whole, not by some process."""
        if self._write("memory.max", str(limit)):
            self._write("memory.swap.max", "0")
            self._write("memory.oom.group", "1")
            return True
        if self._write("memory.limit_in_bytes", str(limit)):
            if not self._write("memory.memsw.limit_in_bytes", str(limit)):
                self._write("memory.swappiness", "0")
            return True
        return False

    def read(self) -> Counts:
        stat = table(self._read("memory.stat"))
        memory = number(self._read("memory.current") or self._read("memory.usage_in_bytes"))
        if memory is not None:  # as Docker counts: without what the kernel would drop at once
            memory = max(0, memory - stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        used = table(self._read("cpu.stat")).get("usage_usec")
        nanoseconds = number(self._read("cpuacct.usage"))
        cpu_s = used / 1e6 if used is not None else None if nanoseconds is None else nanoseconds / 1e9
        return Counts(cpu_s, memory, number(self._read("pids.current")))

    def kill(self) -> None:
        """SIGKILL to all that is in it, and remove it."""
        self._write("cgroup.kill", "1")
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        self.remove()

    def remove(self) -> None:
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _write(self, name: str, text: str) -> bool:
        for folder in self.folders:
            try:
                fd = os.open(folder / name, os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.write(fd, text.encode())
            except OSError:
                continue
            else:
                return True
            finally:
                os.close(fd)
        return False

    def _read(self, name: str) -> str:
        for folder in self.folders:
            with contextlib.suppress(OSError):
                return (folder / name).read_text()
        return ""


def number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
