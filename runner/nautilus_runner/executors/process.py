"""Jobs as processes of this machine.

Each script runs below a warden (warden.py), which is detached from the runner: whatever becomes of the runner, the
job runs on, its output is kept and its end is known. As root, jobs run as `runners.process.user`; as an ordinary
user they run as ourselves, and are not isolated from us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from nautilus_runner.building.wishes import DOCKERFILE
from nautilus_runner.cgroup_tree import Tree as GroupTree
from nautilus_runner.cgroups import FACTS, Facts, Group
from nautilus_runner.clone_path import project_path
from nautilus_runner.errors import JobMisconfigured, SystemFailure
from nautilus_runner.executors import processes, sandboxing
from nautilus_runner.executors.base import Announce, Context, Exit, Handle, OutputFile, Place, Script
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.tree import DiskTree, Tree
from nautilus_runner.live.folder import DiskFolder, LiveFolder
from nautilus_runner.usage.host import folder_bytes, read_tree
from nautilus_runner.usage.reading import Reading

_WARDEN = Path(__file__).with_name("warden.py")
_POLL_S = 0.05
_SHELLS = ("/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash")
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Warden:
    """One warden as the runner sees it: before its script (`popen` waits for its line), during and after it."""

    def __init__(
        self, folder: Path, identity: processes.Identity, popen: subprocess.Popen[bytes] | None
    ) -> None:
        self.folder = folder
        self.identity = identity
        self._popen = popen
        self.over = asyncio.Event()
        self.output = OutputFile(folder / "output", self.over.is_set)
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    def spawn(cls, folder: Path, keep: tuple[int, ...] = ()) -> Warden:
        """`keep` are open files that it holds on to as long as it lives; the script gets none of them."""
        remove_tree(folder)
        folder.mkdir(mode=0o700)
        with (folder / "warden.log").open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(_WARDEN), str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
                pass_fds=keep,
            )
        return cls(folder, processes.Identity.of(popen.pid), popen)

    def command(self, spec: dict[str, Any]) -> None:
        """Let the script begin. Raises SystemFailure where the warden is already gone."""
        assert self._popen is not None and self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps(spec).encode() + b"\n")
            self._popen.stdin.close()
        except OSError as error:
            raise SystemFailure("the job's supervisor ended before the job began") from error

    def dismiss(self) -> None:
        """It is not needed after all."""
        if self._popen is not None and self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()

    async def _watch(self) -> None:
        try:
            fd = self.identity.open()
        except OSError:
            fd = -1
        if fd is None:
            pass
        elif fd < 0:
            while self.identity.is_alive():  # noqa: ASYNC110 - without pidfd there is nothing to wait on
                await asyncio.sleep(_POLL_S)
        else:
            await _readable(fd)
            os.close(fd)
        if self._popen is not None:
            await asyncio.to_thread(self._popen.wait)
        self.over.set()
        self.output.wake.set()

    def result(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / "exit.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def release(self) -> None:
        self._watching.cancel()


class ProcessExecutor:
    """One job's processes."""

    name = "process"

    def __init__(self, context: Context, builds: Path, groups: GroupTree, sandboxes: Sandboxes) -> None:
        self._context = context
        self._settings = context.settings.process
        self._home = builds / context.key
        self._relative = project_path(context.job)
        self._project = self._home / self._relative
        self._groups = groups if self._settings.cgroup else GroupTree()
        self._made: list[Group] = []
        self._running: Handle | None = None
        self._unkept: frozenset[str] = frozenset(("memory", "pids"))
        self._wardens: dict[int, Warden] = {}
        self._is_adopted = False
        self._sandboxes = sandboxes
        self._sandbox: sandboxing.Sandbox | None = None

    @cached_property
    def _account(self) -> processes.Account:
        return processes.account_of(self._settings.user)

    def place(self) -> Place:
        return Place(str(self._home), str(self._project), is_shared=True)

    def stage(self) -> Path:
        remove_tree(self._home)
        self._home.mkdir(mode=0o700)
        tmp = Path(f"{self._project}.tmp")
        for folder in (self._project, tmp, self._home / ".home", self._home / ".tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._project

    async def prepare(self) -> None:
        if self._context.variables.get(DOCKERFILE):
            raise JobMisconfigured(
                f"{DOCKERFILE}: jobs of this runner are processes, which have no image; a runner with the docker "
                "executor builds it"
            )
        await self._choose_sandbox()
        self._wardens[0] = Warden.spawn(self._context.folder / "run-0", self._context.lock_files)

    async def _choose_sandbox(self) -> sandboxing.Sandbox:
        """The same for all scripts of the job, also where the runner was restarted between two of them."""
        if self._sandbox is None:
            self._sandbox = await asyncio.to_thread(
                sandboxing.choose, self._context, self._sandboxes, self._account
            )
        return self._sandbox

    async def adopt(self) -> None:
        await asyncio.to_thread(self._hand_over)
        self._is_adopted = True

    def _hand_over(self) -> None:
        tmp = Path(f"{self._project}.tmp")
        for name, content in self._context.variables.files().items():
            fd = os.open(tmp / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(content.encode(errors="replace"))
        if self._account.uid is None or self._account.gid is None:
            return
        uid, gid = self._account.uid, self._account.gid
        for _path, folders, files, fd in os.fwalk(self._home, follow_symlinks=False):
            for name in (*folders, *files):
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        os.chown(self._home, uid, gid, follow_symlinks=False)

    async def start(self, script: Script, announce: Announce) -> Handle:
        warden = self._wardens.get(script.number)
        if warden is None:
            warden = Warden.spawn(self._context.folder / f"run-{script.number}", self._context.lock_files)
            self._wardens[script.number] = warden
        sandbox = await self._choose_sandbox()
        group = self._groups.make(f"{self._context.key}-{script.number}")
        self._made += [group] if group else []
        self._limit(group, script.number)
        cgroups = [str(folder) for folder in group.folders] if group else []
        handle = {
            "number": script.number,
            "cgroups": cgroups,
            "unkept": sorted(self._unkept),
            **asdict(warden.identity),
        }
        await announce(handle)
        warden.command(self._spec(script, cgroups, sandbox))
        self._running = handle
        return handle

    def _limit(self, group: Group | None, number: int) -> None:
        """Have the kernel keep the job's limits; what it can't is said, and watched."""
        limits = self._context.limits
        missing = group.limit(limits) if group else ("memory", "pids", "cpus")
        self._unkept = frozenset(missing) & {"memory", "pids"}
        wanted = {"memory": limits.memory_mib, "pids": limits.pids, "cpus": limits.cpus}
        if number == 0 and (unkept := [name for name in missing if wanted[name]]):
            left = "; cpus are not limited" if "cpus" in unkept else ""
            self._context.say(
                f"No control group for {', '.join(unkept)} here: memory and processes are watched{left}."
            )

    def _spec(self, script: Script, cgroups: list[str], sandbox: sandboxing.Sandbox) -> dict[str, Any]:
        shell = next((path for path in _SHELLS if os.access(path, os.X_OK)), "/bin/sh")
        return {
            "argv": [*sandbox.arguments(self._context, self._home, self._project), shell],
            "is_wrapped": sandbox.is_on,
            "env": {
                **self._base_environment(shell),
                **script.environment,
                processes.MARKER: self._context.key,
            },
            "cwd": str(self._project),
            "script": script.text,
            "uid": self._account.uid,
            "gid": self._account.gid,
            "cgroups": cgroups,
            "facts": FACTS,
            "timeout_s": script.timeout_s,
            "grace_s": self._settings.grace_s,
            "output_limit": script.output_limit_bytes,
        }

    def _base_environment(self, shell: str) -> dict[str, str]:
        return {
            "PATH": ":".join((*self._settings.path, _SAFE_PATH)),
            "HOME": str(self._home / ".home"),
            "TMPDIR": str(self._home / ".tmp"),
            "USER": self._account.name,
            "LOGNAME": self._account.name,
            "SHELL": shell,
            "LANG": "C.UTF-8",
        }

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        return self._wardens[handle["number"]].output.follow()

    async def wait(self, handle: Handle) -> Exit:
        warden = self._wardens[handle["number"]]
        await warden.over.wait()
        result = warden.result()
        self._running = None
        if result is None:
            await asyncio.to_thread(self._sweep, handle)
            said = (warden.folder / "warden.log").read_text(errors="replace").strip()[-500:]
            note = "the job's supervisor was killed" + (f": {said}" if said else "")
            return Exit(1, is_system_failure=True, note=note)
        if "error" in result:
            return Exit(
                1, is_system_failure=True, note=f"the job's shell can't be started: {result['error']}"
            )
        return Exit(
            result["code"],
            result["signal"],
            is_timeout=result["reason"] == "timeout",
            facts=Facts.of(result.get("group", {})),
        )

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """The warden waits `runners.process.grace_s` by itself; we only cut it short."""
        warden = self._wardens[handle["number"]]
        warden.identity.send(signal.SIGTERM if grace_s > 0 else signal.SIGUSR1)
        try:
            async with asyncio.timeout(max(grace_s, 0.0) or None):
                await warden.over.wait()
        except TimeoutError:
            warden.identity.send(signal.SIGUSR1)
            await warden.over.wait()

    def tree(self) -> Tree:
        return DiskTree(self._home, self._relative, self._account.uid)

    def folder(self) -> LiveFolder | None:
        uid, gid = self._account.uid, self._account.gid
        user = None if uid is None or gid is None else (uid, gid)
        return DiskFolder(self._home, self._relative, user) if self._is_adopted else None

    async def reattach(self, handle: Handle) -> bool:
        self._is_adopted = True
        self._made += [group] if (group := _group_of(handle)) else []
        folder = self._context.folder / f"run-{handle['number']}"
        identity = processes.Identity(handle["pid"], handle["start_time"], handle["boot_id"])
        marks = (folder / "started", folder / "exit.json")
        # it read its line, or is about to learn that none will come
        while identity.is_alive() and not any(mark.exists() for mark in marks):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        if not any(mark.exists() for mark in marks):
            return False
        self._wardens[handle["number"]] = Warden(folder, identity, None)
        self._unkept = frozenset(handle.get("unkept", ()))
        self._running = handle
        return True

    async def usage(self) -> Reading | None:
        handle = self._running
        if handle is None:
            return None
        group = _group_of(handle)
        counts = group.read() if group else None
        if counts is not None and counts.memory_bytes is not None:
            return Reading(counts.cpu_s, counts.memory_bytes, counts.pids)
        return await asyncio.to_thread(read_tree, handle["pid"])

    async def disk_bytes(self) -> int | None:
        return await asyncio.to_thread(folder_bytes, self._home) if self._running else None

    def watched(self) -> frozenset[str]:
        return self._unkept

    def _sweep(self, handle: Handle) -> None:
        """Kill what a killed warden left behind."""
        if group := _group_of(handle):
            group.kill()
        for pid in processes.marked(self._context.key):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    async def cleanup(self) -> None:
        for warden in self._wardens.values():
            warden.dismiss()
            if not warden.over.is_set():
                warden.identity.send(signal.SIGUSR1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await warden.over.wait()
            warden.release()
        for group in self._made:
            group.remove()
        await asyncio.to_thread(remove_tree, self._home)


def _group_of(handle: Handle) -> Group | None:
    """Also of a handle that an earlier version of ours has written."""
    folders = handle.get("cgroups") or [handle.get("cgroup", "")]
    return Group(tuple(Path(folder) for folder in folders)) if folders[0] else None


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
