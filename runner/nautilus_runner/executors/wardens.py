"""Wardens (warden.py) as the runner sees them: started before their script, found again after a restart of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nautilus_runner.errors import SystemFailure
from nautilus_runner.executors import processes
from nautilus_runner.executors.base import OutputFile
from nautilus_runner.files.removal import remove_tree

_WARDEN = Path(__file__).with_name("warden.py")
_POLL_S = 0.05


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

    def last_words(self) -> str:
        """What it or the inlet beside it said of their end, after a colon."""
        said = (self.folder / "warden.log").read_text(errors="replace").strip()[-500:]
        return f": {said}" if said else ""

    def release(self) -> None:
        self._watching.cancel()


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
