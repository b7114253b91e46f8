"""The runs of one job's container, one script each: launched, told to begin, followed to their end.

A handle names a run for the journal: its number, the container, how much of each output stream is of runs before it
(`skip`), and the user (`owner`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from nautilus_runner import shell
from nautilus_runner.errors import JobError, SystemFailure
from nautilus_runner.executors import container_usage, daemon
from nautilus_runner.executors.base import Exit, Handle, OutputFile
from nautilus_runner.executors.container_output import LOST, ContainerOutput
from nautilus_runner.limits import Limits

_FIRST_OUTPUT_S = 2.0


class ContainerRuns:
    """`folder`: the journal's, where the output of each run is kept."""

    def __init__(self, api: Any, folder: Path) -> None:
        self._api = api
        self._folder = folder
        self._outputs: dict[int, ContainerOutput] = {}
        self._files: dict[int, OutputFile] = {}
        self._ends: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._totals = {"out": 0, "err": 0}
        self.has_spoken = asyncio.Event()
        """The first output of any run is here, or the end of one."""

    def handle(self, number: int, container: str, owner: tuple[int, int]) -> Handle:
        """Of the run that comes next."""
        return {"number": number, "container": container, "skip": dict(self._totals), "owner": list(owner)}

    async def launch(self, handle: Handle) -> None:
        """Start the container; its script begins when it is told to."""
        output = self._open(handle)
        await daemon.ask(output.attach)
        try:
            await daemon.ask(self._api.start, handle["container"])
        except JobError:
            output.close()
            raise
        output.follow()

    def begin(self, number: int) -> None:
        """The word that the script waits for."""
        self._outputs[number].begin()

    def logs(self, handle: Handle) -> AsyncIterator[bytes]:
        return self._files[handle["number"]].follow()

    def ended(self, handle: Handle) -> asyncio.Future[dict[str, Any] | None]:
        """Done with the container's last state when the run is over; not to be cancelled."""
        return self._ends[handle["number"]]

    async def exit(self, handle: Handle, limits: Limits) -> Exit:
        """Wait for the end of a run, and tell how it was."""
        number = handle["number"]
        state = await asyncio.shield(self._ends[number])
        self._totals = self._outputs[number].totals
        if state is None:
            return Exit(1, is_system_failure=True, note="the job's container was removed by somebody else")
        if problem := state.get(LOST):
            return Exit(1, is_system_failure=True, note=f"the job's output can't be read: {problem}")
        code = int(state.get("ExitCode", 1))
        return Exit(
            code,
            is_system_failure=bool(state.get("Error")) and code != 0,
            note=state.get("Error", ""),
            facts=container_usage.facts_of(state, limits),
        )

    async def found_again(self, handle: Handle) -> bool:
        """Follow a run that a runner before us launched; one that never began is ended, and False."""
        self._totals = dict(handle["skip"])
        state = await self._inspect(handle["container"])
        output = self._open(handle)
        if not await self._has_begun(output, handle["container"], state):
            with contextlib.suppress(JobError, NotFound):
                await daemon.ask(self._api.kill, handle["container"])
            return False
        output.follow()
        return True

    def close(self) -> None:
        """Follow no further: the runner detaches, or the container goes."""
        for output in self._outputs.values():
            output.close()

    def _open(self, handle: Handle) -> ContainerOutput:
        """Where a run's output goes; `logs` and `exit` live on what its thread tells."""
        number = handle["number"]
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[dict[str, Any] | None] = loop.create_future()
        path = self._folder / f"output-{number}"
        file = OutputFile(path, ended.done)

        def wake() -> None:
            self.has_spoken.set()
            file.wake.set()

        def end(state: dict[str, Any] | None) -> None:
            if not ended.done():
                ended.set_result(state)
            wake()

        def tell(call: Callable[..., object], *args: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the runner has gone, the job lives on
                loop.call_soon_threadsafe(call, *args)

        output = ContainerOutput(
            self._api,
            handle["container"],
            path,
            handle["skip"],
            on_data=lambda: tell(wake),
            on_end=lambda state: tell(end, state),
        )
        self._outputs[number], self._files[number], self._ends[number] = output, file, ended
        return output

    async def _has_begun(self, output: ContainerOutput, container: str, state: dict[str, Any]) -> bool:
        """Whether the word to begin was given. The first thing that any script does is to print."""
        deadline = asyncio.get_running_loop().time() + _FIRST_OUTPUT_S
        while not await daemon.ask(output.has_any):
            if not state.get("Running"):
                was_started = state.get("Status") != "created"
                return was_started and bool(state.get("ExitCode") != shell.NEVER_BEGAN)
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.1)
            state = await self._inspect(container)
        return True

    async def _inspect(self, container: str) -> dict[str, Any]:
        try:
            state: dict[str, Any] = (await daemon.ask(self._api.inspect_container, container))["State"]
        except NotFound as error:
            raise SystemFailure("the job's container was removed by somebody else") from error
        return state
