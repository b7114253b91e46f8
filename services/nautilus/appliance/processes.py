"""Processes of this appliance, found in /proc by a marker in their environment; never by name alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARKER = "NAUTILUS_BOOT"
"""Environment variable that boot gives to supervisord, and so to every program: the data folder."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process as it was seen; pid and start time (clock ticks since boot) name it for good."""

    pid: int
    ppid: int
    name: str
    started_ticks: int

    def is_alive(self) -> bool:
        now = read_process(self.pid)
        return now is not None and now.started_ticks == self.started_ticks


def read_process(pid: int) -> Process | None:
    """The process, or None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    if rest[0] in "ZX":
        return None
    return Process(pid, int(rest[1]), name, int(rest[19]))


def leftovers(home: Path, parents: Iterable[int] = ()) -> list[Process]:
    """Processes of the appliance on `home` whose parent is neither one of `parents` nor one of their own kind.

    That is: what a killed supervisord, or a killed program of it, has left behind.
    """
    ours = {process.pid: process for process in _of_appliance(home)}
    keep = set(parents)
    return [p for p in ours.values() if p.ppid not in ours and p.ppid not in keep and p.pid != os.getpid()]


def family(home: Path) -> list[Process]:
    """All processes of the appliance on `home`, without the calling one."""
    return [p for p in _of_appliance(home) if p.pid != os.getpid()]


def end_processes(processes: Iterable[Process], grace_s: float) -> None:
    """SIGTERM, then SIGKILL for those that are still there after `grace_s` seconds."""
    waiting = list(processes)
    _signal(waiting, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
    deadline = time.monotonic() + max(grace_s, 2.0)
    while waiting := [process for process in waiting if process.is_alive()]:
        if time.monotonic() > deadline:
            _signal(waiting, signal.SIGKILL)
            return
        time.sleep(0.02)


def uptime_s(process: Process) -> float:
    """Seconds since the process began."""
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, since_boot - process.started_ticks / _TICKS_PER_S)


def pss_mib(pid: int) -> float | None:
    """Proportional set size in MiB, None when it may not be read; 0 for a process that has ended."""
    try:
        text = _smaps(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), None)


def _smaps(pid: int) -> str:
    """Sums of a process's memory; PermissionError.

    Root in a container lacks CAP_SYS_PTRACE, so the kernel shows it only its own processes': another user's are
    read as that user. What changed its user itself without a new program (nginx's workers) stays unreadable.
    Source: Linux, Documentation/filesystems/proc.rst and ptrace(2), "Ptrace access mode checking".
    """
    path = Path(f"/proc/{pid}/smaps_rollup")
    try:
        return path.read_text()
    except PermissionError:
        if os.geteuid() != 0:
            raise
    owner = path.parent.stat()
    shown = subprocess.run(
        ["cat", str(path)],
        capture_output=True,
        text=True,
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        check=False,
    )
    if shown.returncode != 0:
        raise PermissionError(f"{path} may not be read")
    return shown.stdout


def descendants(pid: int) -> list[int]:
    """Pids of the whole tree below `pid`, itself included."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{current}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
    return found


def _of_appliance(home: Path) -> list[Process]:
    marker = f"{MARKER}={home}".encode()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    processes = (read_process(pid) for pid in pids)
    return [p for p in processes if p is not None and (_has_marker(p, marker) or _is_gateway_of(p, home))]


def _has_marker(process: Process, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _is_gateway_of(process: Process, home: Path) -> bool:
    """nginx writes its title over its environment: so it is known by the log that it holds open."""
    if process.name != "nginx":
        return False
    try:
        links = [str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return False
    return any(link.startswith(f"{home}/log/") for link in links)


def _signal(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, number)
