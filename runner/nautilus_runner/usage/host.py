"""What can be read of this machine without control groups: the processes of a job, and the size of a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nautilus_runner.usage.reading import Reading

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512
_MOST_FILES = 2_000_000


def read_tree(root: int) -> Reading | None:
    """All processes below `root` (which is not counted itself): what they use, and used up to now. None: it is gone.

    Memory is the sum of resident sizes, so pages that several share count for each: rather too much than too little.
    """
    children: dict[int, list[tuple[int, int, int, int]]] = {}
    found: list[tuple[int, int, int]] = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names alone, of all processes
        if not name.isdigit():
            continue
        try:
            fields = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks = sum(int(fields[at]) for at in (11, 12, 13, 14))  # own, and of children that it has waited for
        entry = (int(name), ticks, int(fields[21]) * _PAGE, int(fields[0] not in (b"Z", b"X")))
        children.setdefault(int(fields[1]), []).append(entry)
    queue = [root]
    while queue:
        for pid, ticks, resident, is_alive in children.get(queue.pop(), ()):
            found.append((ticks, resident, is_alive))
            queue.append(pid)
    if not found:
        return None
    alive = [one for one in found if one[2]]
    return Reading(
        cpu_s=sum(one[0] for one in found) / _TICKS,
        memory_bytes=sum(one[1] for one in alive),
        pids=len(alive),
    )


def folder_bytes(folder: Path) -> int:
    """What a folder holds on its own file system, as blocks; links are not followed, hard links counted once.

    A job writes there meanwhile: what vanishes is left out.
    """
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    device = os.fstat(root).st_dev
    seen: set[int] = set()
    total = files = 0
    try:
        for _, folders, names, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False, onerror=None):
            for name in (*folders, *names):
                try:
                    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue
                if info.st_dev != device:
                    continue
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                total += info.st_blocks * _BLOCK
                files += 1
            if files > _MOST_FILES:
                break
    except OSError:
        pass
    finally:
        os.close(root)
    return total
