"""What an executor is.

Five verbs, one instance per job: `prepare` makes the place, `start` runs one script in it, `logs` and `wait`
follow that script, `cleanup` removes every trace. `stop` ends a script early; `reattach` finds after a restart
of the runner what `start` began, from the JSON that it had returned. All raise JobError when the job must end.

The runner prepares the work tree itself, in `stage` (a folder that no job has ever written), and hands it over
once with `adopt`. From then on the tree is the job's: it is only read through `tree`, which follows no link.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nautilus_runner.cgroups import Facts
from nautilus_runner.files.tree import Tree
from nautilus_runner.gpu import Allotment
from nautilus_runner.limits import Limits
from nautilus_runner.live.folder import LiveFolder
from nautilus_runner.payload import Job
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.usage.meter import Meter
from nautilus_runner.usage.reading import Reading
from nautilus_runner.variables import Variables

Handle = dict[str, Any]
Announce = Callable[[Handle], Awaitable[None]]
_POLL_S = 0.05
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Exit:
    """How a script ended: its exit code; `signal` when one ended it; `note` says more, for people; `facts` is what
    the kernel (or the daemon) says of its limits."""

    code: int
    signal: int = 0
    is_timeout: bool = False
    is_system_failure: bool = False
    note: str = ""
    facts: Facts = field(default_factory=Facts)


@dataclass(slots=True)
class Place:
    """Where and with what a job runs; made by the executor, as the job sees it."""

    builds_dir: str
    project_dir: str
    is_shared: bool  # other jobs run in the same environment (CI_SHARED_ENVIRONMENT)

    @property
    def tmp_dir(self) -> str:
        return f"{self.project_dir}.tmp"


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder of ours that a job may read, as others do: `name` tells its content; the job finds it at `seen_at`."""

    name: str
    folder: Path
    seen_at: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Script:
    """One stage's script. `number` counts the job's scripts from 0; `text` is what a shell gets for `commands`."""

    number: int
    name: str
    commands: tuple[str, ...]
    text: str
    environment: Mapping[str, str]
    timeout_s: float
    output_limit_bytes: int


@dataclass(slots=True)
class Context:
    """What an executor gets to know of its job. `say` writes a line of the log."""

    key: str
    job: Job
    settings: RunnerSettings
    folder: Path  # the journal's folder of this job
    say: Callable[[str], None]
    variables: Variables = field(default_factory=lambda: Variables((), ""))
    gpus: Allotment = field(default_factory=Allotment)
    limits: Limits = field(default_factory=Limits)
    meter: Meter = field(default_factory=Meter)
    waits_for: str = ""  # why the job does not begin yet, for people
    lock_files: tuple[
        int, ...
    ] = ()  # open files that hold the GPUs; processes of the job's supervisor inherit them
    accepted: asyncio.Event = field(default_factory=asyncio.Event)  # the server knows that the job is ours
    is_again: bool = False  # an earlier preparation of the same job may have left something
    shared: tuple[SharedFolder, ...] = ()  # known before `prepare`
    sources: asyncio.Future[Any] | None = None  # done once the checkout is; known before `prepare`
    first: Script | None = None  # known before `prepare`, for executors that can send it along


class Executor(Protocol):
    name: str

    def place(self) -> Place:
        """Known at once, before anything is made."""

    def stage(self) -> Path:
        """Make an empty folder of the runner's, in which the project folder's content is put together."""

    async def prepare(self) -> None:
        """Make all that needs no work tree (pull, create); runs while the sources are fetched."""

    async def adopt(self) -> None:
        """Hand the staged tree and the file variables over to the job."""

    async def start(self, script: Script, announce: Announce) -> Handle:
        """Begin a script. `announce` gets the handle and is awaited before anything of the script can run."""

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        """All bytes that the script printed, from its first, until it ended."""

    async def wait(self, handle: Handle) -> Exit: ...

    async def stop(self, handle: Handle, grace_s: float) -> None:
        """SIGTERM, then after `grace_s` SIGKILL, to everything that the script began. Returns when all is gone."""

    def tree(self) -> Tree:
        """The project folder, to be read with care."""

    def folder(self) -> LiveFolder | None:
        """The same, for people to look into while the job runs; None until `adopt` has made it the job's."""

    async def reattach(self, handle: Handle) -> bool:
        """Find a script again after a restart; False: it never began."""

    async def usage(self) -> Reading | None:
        """What the running script uses now; None: nothing runs, or it can't be told."""

    async def disk_bytes(self) -> int | None:
        """What the job holds on disk; None: it can't be told. May take long."""

    def watched(self) -> frozenset[str]:
        """Of `memory` and `pids`, the limits that nothing but our own watching keeps."""

    async def cleanup(self) -> None:
        """Remove everything of the job but the journal. Never raises; may be called at any time, twice."""


class OutputFile:
    """A growing file of output, read as it grows: how every executor's `logs` works.

    `is_over` says that nothing more will be written; `wake` shortens the wait where the writer can tell.
    """

    def __init__(self, path: Path, is_over: Callable[[], bool]) -> None:
        self._path = path
        self._is_over = is_over
        self.wake = asyncio.Event()

    async def follow(self) -> AsyncIterator[bytes]:
        offset = 0
        fd = -1
        try:
            while True:
                was_over = self._is_over()
                if fd < 0 and self._path.exists():
                    fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                while fd >= 0 and (data := os.pread(fd, _CHUNK, offset)):
                    offset += len(data)
                    yield data
                if was_over:
                    return
                try:
                    async with asyncio.timeout(_POLL_S):
                        await self.wake.wait()
                    self.wake.clear()
                except TimeoutError:
                    pass
        finally:
            if fd >= 0:
                os.close(fd)
