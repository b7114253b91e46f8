"""An executor that runs nothing: for tests of everything around it, without processes or containers.

Its scripts are read line by line: `print TEXT`, `write PATH TEXT`, `sleep SECONDS`, `exit CODE`, `hang` (until
stopped); any other line is printed. Its project folder is a plain folder of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from nautilus_runner.executors.base import Announce, Context, Exit, Handle, OutputFile, Place, Script
from nautilus_runner.files.removal import remove_tree
from nautilus_runner.files.tree import DiskTree, Tree
from nautilus_runner.live.folder import DiskFolder, LiveFolder


class DummyExecutor:
    name = "dummy"

    def __init__(self, context: Context, builds: Path) -> None:
        self._context = context
        self._home = builds / context.key
        self._runs: dict[int, asyncio.Task[Exit]] = {}
        self._stops: dict[int, asyncio.Event] = {}

    def place(self) -> Place:
        return Place(str(self._home), str(self._home / "project"), is_shared=True)

    def stage(self) -> Path:
        remove_tree(self._home)
        project = self._home / "project"
        project.mkdir(parents=True)
        return project

    async def prepare(self) -> None:
        self._context.say("Nothing is really run here.")

    async def adopt(self) -> None:
        return None

    async def start(self, script: Script, announce: Announce) -> Handle:
        handle = {"number": script.number}
        await announce(handle)
        self._stops[script.number] = asyncio.Event()
        self._runs[script.number] = asyncio.create_task(self._play(script))
        return handle

    async def _play(self, script: Script) -> Exit:
        path = self._output(script.number)
        stop = self._stops[script.number]
        with path.open("wb", buffering=0) as out:
            for line in script.commands:
                verb, _, rest = line.partition(" ")
                if verb == "exit":
                    return Exit(int(rest))
                if verb == "write":
                    name, _, text = rest.partition(" ")
                    (self._home / "project" / name).write_text(text)
                elif verb in ("sleep", "hang"):
                    try:
                        async with asyncio.timeout(float(rest) if verb == "sleep" else None):
                            await stop.wait()
                        return Exit(143, signal=15)
                    except TimeoutError:
                        pass
                else:
                    out.write(f"{rest if verb == 'print' else line}\n".encode())
        return Exit(0)

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        run = self._runs[handle["number"]]
        return OutputFile(self._output(handle["number"]), run.done).follow()

    async def wait(self, handle: Handle) -> Exit:
        return await self._runs[handle["number"]]

    async def stop(self, handle: Handle, grace_s: float) -> None:
        self._stops[handle["number"]].set()
        await self._runs[handle["number"]]

    def tree(self) -> Tree:
        return DiskTree(self._home, "project")

    def folder(self) -> LiveFolder | None:
        return DiskFolder(self._home, "project") if self._runs else None

    async def reattach(self, handle: Handle) -> bool:
        return False

    async def usage(self) -> None:
        return None

    async def disk_bytes(self) -> None:
        return None

    def watched(self) -> frozenset[str]:
        return frozenset()

    async def cleanup(self) -> None:
        for run in self._runs.values():
            run.cancel()
        remove_tree(self._home)

    def _output(self, number: int) -> Path:
        return self._context.folder / f"output-{number}"
