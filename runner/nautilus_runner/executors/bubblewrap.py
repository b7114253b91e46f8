"""The sandbox of process jobs: what a job sees of the machine, as arguments of bubblewrap.

A job sees the system's programs read-only, its own folder, a /tmp, /proc and /dev of its own, and the devices of its
GPUs. It does not see other jobs' files and processes, the runner's files, homes, or any socket below /run. It is
tried once, as the user who jobs run as, whether that works here: containers and some systems forbid it.
Source: bwrap(1) of bubblewrap 0.4 and later.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.executors.processes import Account
from nautilus_runner.network.modes import NetworkMode
from nautilus_runner.network.passage import BLOCK, HOSTS, INFO

_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TOP = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM = ("/usr", "/etc", "/opt", "/sys", "/nix/store", "/var/lib/nautilus-ca")
_HIDDEN = ("/etc/nautilus-runner", "/etc/nautilus", "/etc/gitlab-runner", "/etc/docker")
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager")
_GPU_NODES = (
    *(
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
        "/dev/nvidia-caps",
    ),
)
_GPU_FACTS = Path("/proc/driver/nvidia/gpus")
_TRIAL_S = 10
_INSTALL = "install bubblewrap (`apt-get install bubblewrap`) and start the runner again"
_ALLOW = (
    "bubblewrap is not allowed to make user namespaces here (in a container use the docker executor; elsewhere "
    "`sysctl kernel.unprivileged_userns_clone=1`, or on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`)"
)


@dataclass(frozen=True, slots=True)
class View:
    """What one job sees. `shared`: source and where it is seen, read-only. `devices`: of its GPUs.

    In network mode internal the command's files INFO, BLOCK and HOSTS are a Passage's.
    """

    home: Path
    project: Path
    network: NetworkMode = NetworkMode.FULL
    readable: tuple[str, ...] = ()
    shared: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`program`: bwrap, "" where it can't be used; `reason` then says why, and what to do."""

    program: str = ""
    reason: str = ""


class Sandboxes:
    """Whether there are sandboxes for a user; tried once for each."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[int | None, int | None], Verdict] = {}
        self._lock = threading.Lock()

    def verdict(self, account: Account) -> Verdict:
        """Blocking at the first use, for some hundredths of a second."""
        key = (account.uid, account.gid)
        with self._lock:
            if key not in self._verdicts:
                self._verdicts[key] = _tried(account)
            return self._verdicts[key]


def arguments(program: str, view: View) -> list[str]:
    """What precedes a job's command."""
    argv = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if view.network is NetworkMode.FULL:
        argv.append("--share-net")
    if view.network is NetworkMode.INTERNAL:
        argv += ["--info-fd", INFO, "--block-fd", BLOCK]
    argv += [*_top(), *_each("--ro-bind-try", _SYSTEM), "--proc", "/proc", "--dev", "/dev"]
    argv += ["--dir", "/run", "--perms", "0755", "--dir", "/var", "--symlink", "../run", "/var/run"]
    argv += _each("--ro-bind-try", dict.fromkeys((*_RESOLVERS, os.path.realpath("/etc/resolv.conf"))))
    for hidden in _HIDDEN:
        argv += ["--tmpfs", hidden] if Path(hidden).is_dir() else []
    if view.network is NetworkMode.INTERNAL:
        argv += ["--perms", "0644", "--ro-bind-data", HOSTS, "/etc/hosts"]
    argv += _temporary(view)
    argv += _each("--ro-bind-try", view.readable)
    argv += _each("--dev-bind-try", view.devices)
    for source, target in view.shared:
        argv += ["--ro-bind", source, target]
    return [*argv, "--bind", str(view.home), str(view.home), "--chdir", str(view.project), "--"]


def readable_for(path: Iterable[str], also: Iterable[str] = ()) -> tuple[str, ...]:
    """The folders that programs in `path` (folders for PATH) live in, wherever their interpreters lie."""
    found: list[str] = []
    for folder in map(Path, path):
        root = folder.parent if folder.name == "bin" else folder
        found.append(str(root))
        for name in ("python3", "python"):
            real = Path(os.path.realpath(folder / name))
            if real.is_file() and real.parent.name == "bin" and not real.is_relative_to("/usr"):
                found.append(str(real.parent.parent))
    return tuple(dict.fromkeys(folder for folder in [*found, *also] if folder not in ("/", "/usr")))


def gpu_devices(uuids: Sequence[str]) -> tuple[str, ...]:
    """Device files of these GPUs and of their driver; of all GPUs where the driver does not say which is which."""
    if not uuids:
        return ()
    minors = dict(_gpu_minors())
    known = [f"/dev/nvidia{minors[uuid]}" for uuid in uuids if uuid in minors]
    if len(known) < len(uuids):
        known = [str(path) for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return (*known, *_GPU_NODES)


def _gpu_minors() -> Iterable[tuple[str, str]]:
    for path in _GPU_FACTS.glob("*/information") if _GPU_FACTS.is_dir() else ():
        facts = dict(line.partition(":")[::2] for line in path.read_text(errors="replace").splitlines())
        yield facts.get("GPU UUID", "").strip(), facts.get("Device Minor", "").strip()


def _top() -> list[str]:
    """/bin and its like: links on most systems, folders on some."""
    argv: list[str] = []
    for name in _TOP:
        path = Path(name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            argv += ["--ro-bind", name, name]
    return argv


def _temporary(view: View) -> list[str]:
    """/tmp and /var/tmp are the job's own, on its disk; in memory where its folder itself lies there."""
    argv: list[str] = []
    for folder in ("/tmp", "/var/tmp"):
        is_inside = view.home.is_relative_to(folder)
        argv += (
            ["--perms", "1777", "--tmpfs", folder]
            if is_inside
            else ["--bind", str(view.home / ".tmp"), folder]
        )
    return argv


def _each(option: str, paths: Iterable[str]) -> list[str]:
    return [word for path in paths for word in (option, path, path)]


def _tried(account: Account) -> Verdict:
    program = shutil.which("bwrap", path=_SAFE_PATH)
    if program is None:
        return Verdict(reason=_INSTALL)
    argv = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", *_top()]
    argv += [
        *_each("--ro-bind-try", _SYSTEM),
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--perms",
        "1777",
        "--tmpfs",
        "/tmp",
    ]
    user: dict[str, Any] = (
        {} if account.uid is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    try:
        done = subprocess.run(
            [*argv, "--", "true"],
            capture_output=True,
            timeout=_TRIAL_S,
            cwd="/",
            env={"PATH": _SAFE_PATH},
            **user,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Verdict(reason=f"bubblewrap can't be started: {error}")
    if done.returncode == 0:
        return Verdict(program)
    said = " ".join(done.stderr.decode(errors="replace").split())[:200]
    is_old = "--perms" in said
    return Verdict(reason=f"bubblewrap here is older than 0.5: {_INSTALL}" if is_old else f"{_ALLOW}: {said}")
