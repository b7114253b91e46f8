"""Jobs as processes of this machine.

Each script runs below a warden (warden.py), which is detached from the runner: whatever becomes of the runner, the
job runs on, its output is kept and its end is known. As root, jobs run as `runners.process.user`; as an ordinary
user they run as ourselves, and are not isolated from us.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from nautilus_runner.building.wishes import DOCKERFILE
from nautilus_runner.cgroup_tree import Tree as GroupTree
from nautilus_runner.cgroups import FACTS, Facts
from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.executors import processes, sandboxing
from nautilus_runner.executors.base import Announce, Context, Exit, Handle, Place, Script
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.executors.job_folder import JobFolder
from nautilus_runner.executors.job_groups import JobGroups
from nautilus_runner.executors.wardens import Warden
from nautilus_runner.files.tree import Tree
from nautilus_runner.live.folder import LiveFolder
from nautilus_runner.usage.reading import Reading

_POLL_S = 0.05
_SHELLS = ("/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash")
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessExecutor:
    """One job's processes."""

    name = "process"

    def __init__(self, context: Context, builds: Path, groups: GroupTree, sandboxes: Sandboxes) -> None:
        self._context = context
        self._settings = context.settings.process
        self._folder = JobFolder(context, builds)
        self._groups = JobGroups(context, groups if self._settings.cgroup else GroupTree())
        self._running: Handle | None = None
        self._wardens: dict[int, Warden] = {}
        self._is_adopted = False
        self._sandboxes = sandboxes
        self._sandbox: sandboxing.Sandbox | None = None

    @cached_property
    def _account(self) -> processes.Account:
        return processes.account_of(self._settings.user)

    def place(self) -> Place:
        return self._folder.place()

    def stage(self) -> Path:
        return self._folder.stage()

    # ---- prepare

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
        await asyncio.to_thread(self._folder.hand_over, self._account)
        self._is_adopted = True

    # ---- run

    async def start(self, script: Script, announce: Announce) -> Handle:
        warden = self._wardens.get(script.number)
        if warden is None:
            warden = Warden.spawn(self._context.folder / f"run-{script.number}", self._context.lock_files)
            self._wardens[script.number] = warden
        sandbox = await self._choose_sandbox()
        cgroups = self._groups.make(script.number)
        handle = {
            "number": script.number,
            "cgroups": cgroups,
            "unkept": sorted(self._groups.unkept),
            **asdict(warden.identity),
        }
        await announce(handle)
        warden.command(self._spec(script, cgroups, sandbox))
        self._running = handle
        return handle

    def _spec(self, script: Script, cgroups: list[str], sandbox: sandboxing.Sandbox) -> dict[str, Any]:
        """What a warden is told (warden.py)."""
        shell = next((path for path in _SHELLS if os.access(path, os.X_OK)), "/bin/sh")
        home, project = self._folder.home, self._folder.project
        return {
            "argv": [*sandbox.arguments(self._context, home, project), shell],
            "is_wrapped": sandbox.is_on,
            "passage": sandbox.passage(self._context, self._account),
            "env": {
                "PATH": ":".join((*self._settings.path, _SAFE_PATH)),
                **self._folder.environment(self._account),
                "SHELL": shell,
                "LANG": "C.UTF-8",
                **script.environment,
                processes.MARKER: self._context.key,
            },
            "cwd": str(project),
            "script": script.text,
            "uid": self._account.uid,
            "gid": self._account.gid,
            "cgroups": cgroups,
            "facts": FACTS,
            "timeout_s": script.timeout_s,
            "grace_s": self._settings.grace_s,
            "output_limit": script.output_limit_bytes,
        }

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        return self._wardens[handle["number"]].output.follow()

    async def wait(self, handle: Handle) -> Exit:
        warden = self._wardens[handle["number"]]
        await warden.over.wait()
        result = warden.result()
        self._running = None
        if result is None:
            await asyncio.to_thread(self._groups.sweep, handle)
            return Exit(
                1, is_system_failure=True, note=f"the job's supervisor was killed{warden.last_words()}"
            )
        if "error" in result:
            return Exit(
                1, is_system_failure=True, note=f"the job's shell can't be started: {result['error']}"
            )
        if result["reason"] == "cut":
            return Exit(
                1, is_system_failure=True, note=f"the job's way to the server ended{warden.last_words()}"
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

    async def reattach(self, handle: Handle) -> bool:
        self._is_adopted = True
        self._groups.adopt(handle)
        folder = self._context.folder / f"run-{handle['number']}"
        identity = processes.Identity(handle["pid"], handle["start_time"], handle["boot_id"])
        marks = (folder / "started", folder / "exit.json")
        # it read its line, or is about to learn that none will come
        while identity.is_alive() and not any(mark.exists() for mark in marks):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        if not any(mark.exists() for mark in marks):
            return False
        self._wardens[handle["number"]] = Warden(folder, identity, None)
        self._running = handle
        return True

    # ---- look

    def tree(self) -> Tree:
        return self._folder.tree(self._account)

    def folder(self) -> LiveFolder | None:
        return self._folder.live(self._account) if self._is_adopted else None

    async def usage(self) -> Reading | None:
        handle = self._running
        return await asyncio.to_thread(self._groups.usage, handle) if handle is not None else None

    async def disk_bytes(self) -> int | None:
        return await asyncio.to_thread(self._folder.size) if self._running else None

    def watched(self) -> frozenset[str]:
        return self._groups.unkept

    # ---- cleanup

    async def cleanup(self) -> None:
        for warden in self._wardens.values():
            warden.dismiss()
            if not warden.over.is_set():
                warden.identity.send(signal.SIGUSR1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        await warden.over.wait()
            warden.release()
        self._groups.remove()
        await asyncio.to_thread(self._folder.remove)
