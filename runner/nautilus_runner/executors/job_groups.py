"""The control groups of one process job's scripts: its limits, what it uses, and the end of what is left."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from nautilus_runner.cgroup_tree import Tree
from nautilus_runner.cgroups import Group
from nautilus_runner.executors import processes
from nautilus_runner.executors.base import Context, Handle
from nautilus_runner.usage.host import read_tree
from nautilus_runner.usage.reading import Reading

_KEPT_BY_US = frozenset(("memory", "pids"))


class JobGroups:
    """`unkept`: of `memory` and `pids`, the limits that nothing but our own watching keeps."""

    def __init__(self, context: Context, groups: Tree) -> None:
        self._context = context
        self._groups = groups
        self._made: list[Group] = []
        self.unkept = _KEPT_BY_US

    def make(self, number: int) -> list[str]:
        """The folders of a script's group, limited as its job is; none where there are no control groups."""
        group = self._groups.make(f"{self._context.key}-{number}")
        self._made += [group] if group else []
        self._limit(group, number)
        return [str(folder) for folder in group.folders] if group else []

    def _limit(self, group: Group | None, number: int) -> None:
        """Have the kernel keep the job's limits; what it can't is said, and watched."""
        limits = self._context.limits
        missing = group.limit(limits) if group else ("memory", "pids", "cpus")
        self.unkept = frozenset(missing) & _KEPT_BY_US
        wanted = {"memory": limits.memory_mib, "pids": limits.pids, "cpus": limits.cpus}
        if number == 0 and (unkept := [name for name in missing if wanted[name]]):
            left = "; cpus are not limited" if "cpus" in unkept else ""
            self._context.say(
                f"No control group for {', '.join(unkept)} here: memory and processes are watched{left}."
            )

    def adopt(self, handle: Handle) -> None:
        """Those of a script that an earlier run of the runner began."""
        self._made += [group] if (group := _group_of(handle)) else []
        self.unkept = frozenset(handle.get("unkept", ()))

    def usage(self, handle: Handle) -> Reading | None:
        """What a script uses. Blocking."""
        group = _group_of(handle)
        counts = group.read() if group else None
        if counts is not None and counts.memory_bytes is not None:
            return Reading(counts.cpu_s, counts.memory_bytes, counts.pids)
        return read_tree(handle["pid"])

    def sweep(self, handle: Handle) -> None:
        """Kill what a killed warden left behind. Blocking."""
        if group := _group_of(handle):
            group.kill()
        for pid in processes.marked(self._context.key):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        for group in self._made:
            group.remove()


def _group_of(handle: Handle) -> Group | None:
    """Also of a handle that an earlier version of ours has written."""
    folders = handle.get("cgroups") or [handle.get("cgroup", "")]
    return Group(tuple(Path(folder) for folder in folders)) if folders[0] else None
