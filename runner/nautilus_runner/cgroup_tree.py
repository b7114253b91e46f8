"""Where in this machine's hierarchies of control groups we may make some, and what our own leaves us."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.cgroups import Group, number

_WANTED = ("memory", "pids", "cpu")
_FOLDER = "nautilus-runner"
_NO_LIMIT_V1 = 1 << 60  # what version 1 shows for "no limit" is larger


@dataclass(frozen=True, slots=True)
class Tree:
    """Where groups of ours can be made; `folders` is empty where nowhere. `prefix` is ours among several runners."""

    folders: tuple[Path, ...] = ()
    prefix: str = "nautilus"

    def make(self, name: str) -> Group | None:
        made = []
        for parent in self.folders:
            with contextlib.suppress(OSError):
                (parent / f"{self.prefix}-{name}").mkdir(exist_ok=True)
                made.append(parent / f"{self.prefix}-{name}")
        return Group(tuple(made)) if made else None

    def left(self) -> dict[str, Group]:
        """Groups of ours that are there, by name."""
        found: dict[str, list[Path]] = {}
        for parent in self.folders:
            for folder in parent.glob(f"{self.prefix}-*"):
                found.setdefault(folder.name.removeprefix(f"{self.prefix}-"), []).append(folder)
        return {name: Group(tuple(folders)) for name, folders in found.items()}


def find_tree(prefix: str = "nautilus") -> Tree:
    """Looks at the mounted hierarchies; makes our own folder there where that is allowed."""
    mounts = _mounts()
    own = _own_groups()
    folders: list[Path] = []
    if "" in mounts and "" in own:
        mount, root = mounts[""]
        unified = _unified_parent(mount, _below(mount, root, own[""]))
        if unified is not None:
            folders.append(unified)
            if "memory" in _words(unified / "cgroup.subtree_control"):
                return Tree((unified,), prefix)
    parents: dict[Path, None] = {}
    for controller in (*_WANTED, "cpuacct"):
        if controller in mounts and controller in own:
            folder = _below(*mounts[controller], own[controller])
            if folder is not None and os.access(folder, os.W_OK):
                parents[folder] = None
    return Tree((*folders, *parents), prefix)


def _unified_parent(mount: Path, own: Path | None) -> Path | None:
    """Where in the unified hierarchy jobs' groups go, with the controllers switched on as far as possible.

    A part that was delegated to us (systemd's Delegate=, with us in a group below it) is not left; else root makes a
    folder at the top, as container engines do; else the nearest group where we may write.
    """
    if own is None:
        return None
    above = [folder for folder in (own, *own.parents) if folder == mount or mount in folder.parents]
    delegated = [folder for folder in above[1:] if _is_delegated(folder)]
    for parent in (*delegated, *reversed(above)):
        if not os.access(parent / "cgroup.procs", os.W_OK):
            continue
        if parent == own and parent != mount:
            _step_aside(parent)
        if _enable(parent):
            folder = parent / _FOLDER
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                if _enable(folder):
                    return folder
    return own if os.access(own, os.W_OK) else None


def _is_delegated(folder: Path) -> bool:
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            return os.getxattr(folder, name) == b"1"
    return False


def _step_aside(folder: Path) -> None:
    """A group that hands controllers on holds no process itself: ours go into one below it."""
    with contextlib.suppress(OSError):
        pids = (folder / "cgroup.procs").read_text().split()
        aside = folder / "runner"
        aside.mkdir(exist_ok=True)
        for pid in pids:
            with contextlib.suppress(OSError):
                (aside / "cgroup.procs").write_text(pid)


def _enable(folder: Path) -> bool:
    """Hand on what we want and there is; True where that is at least memory."""
    there = _words(folder / "cgroup.controllers")
    for controller in _WANTED:
        if controller in there and controller not in _words(folder / "cgroup.subtree_control"):
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
    return "memory" in _words(folder / "cgroup.subtree_control")


def _mounts() -> dict[str, tuple[Path, str]]:
    """By controller ("" is the unified hierarchy): where it is mounted, and which group is the mount's root."""
    found: dict[str, tuple[Path, str]] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            fields, kind = before.split(), after.split()
            if kind[0] == "cgroup2":
                found.setdefault("", (Path(fields[4]), fields[3]))
            elif kind[0] == "cgroup":
                for controller in kind[2].split(","):
                    found.setdefault(controller, (Path(fields[4]), fields[3]))
    return found


def _own_groups() -> dict[str, str]:
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                found[controller] = path
    return found


def _below(mount: Path, root: str, own: str) -> Path | None:
    """The folder of the group `own` in a mount that shows the groups from `root` on."""
    relative = os.path.relpath(own, root)
    if relative.startswith(".."):
        return None
    folder = mount / relative
    return folder if folder.is_dir() else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What our own group, and those above it, leave us; None: no bound."""

    cpus: float | None = None
    memory_bytes: int | None = None


def own_bounds() -> Bounds:
    """As far as can be seen from here."""
    mounts, own = _mounts(), _own_groups()
    cpus: list[float] = []
    memory: list[int] = []
    for controller in ("", "memory", "cpu"):
        if controller not in mounts or controller not in own:
            continue
        mount, root = mounts[controller]
        folder = _below(mount, root, own[controller])
        while folder is not None:
            memory += _positive(folder / "memory.max") + _positive(folder / "memory.limit_in_bytes")
            cpus += _cpu_bound(folder)
            folder = folder.parent if folder != mount else None
    return Bounds(min(cpus, default=None), min(memory, default=None))


def _positive(path: Path) -> list[int]:
    with contextlib.suppress(OSError):
        found = number(path.read_text())
        return [found] if found is not None and 0 < found < _NO_LIMIT_V1 else []
    return []


def _cpu_bound(folder: Path) -> list[float]:
    words = _words(folder / "cpu.max")
    if len(words) == 2 and words[0].isdigit():
        return [int(words[0]) / int(words[1])]
    quota, period = _positive(folder / "cpu.cfs_quota_us"), _positive(folder / "cpu.cfs_period_us")
    return [quota[0] / period[0]] if quota and period else []


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
