"""Looks after this machine's GPUs: finds them, tests them, watches them, sets aside and takes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nautilus_runner.executors import containers, gpu_probe
from nautilus_runner.executors.factory import Factory
from nautilus_runner.executors.gpu_monitor import GpuMonitor
from nautilus_runner.gpu import Gpu, find_gpus, library
from nautilus_runner.gpus import neighbours
from nautilus_runner.gpus.health import Health
from nautilus_runner.gpus.limits import chosen, limits_of, reachable
from nautilus_runner.gpus.locks import HostLocks
from nautilus_runner.gpus.pool import TESTING, GpuPool
from nautilus_runner.gpus.selftest import SelfTests
from nautilus_runner.settings import Settings

log = logging.getLogger(__name__)

_WATCH_EVERY_S = 5.0
_PATIENCE_S = 60.0
_AGAIN_S, _AGAIN_AT_MOST_S = 15.0, 600.0
"""A GPU that is set aside is tested again after this long, each time twice as long."""


class GpuKeeper:
    """`run` lives as long as the runner. `nvml` is the driver's library, to be replaced in tests."""

    def __init__(
        self,
        pool: GpuPool,
        executors: Factory,
        system_id: str,
        data_dir: Path,
        environ: Mapping[str, str],
        nvml: Any = None,
        tests: SelfTests | None = None,
    ) -> None:
        self._pool = pool
        self._executors = executors
        self._system_id = system_id
        self._limits = limits_of(environ)
        self._nvml = nvml
        self._tests = tests or SelfTests(executors, data_dir)
        self._health: Health | None = None
        self._monitor: GpuMonitor | None = None
        self._here: frozenset[str] = frozenset()
        """All of the machine's, also those that are not ours to give; none: they could not be looked for."""
        self._told: dict[str, str] = {}
        self._looking: asyncio.Future[dict[str, str]] | None = None
        """A look that the driver does not answer."""
        self._testing: dict[str, asyncio.Task[None]] = {}
        self._again: dict[str, tuple[float, float]] = {}  # when a GPU is tested again, and how long that was

    def is_testing(self, key: str) -> bool:
        """Whether `key` names a self-test of this process: what looks for orphaned jobs leaves it alone."""
        return self._tests.has(key)

    async def run(self, settings: Settings, on_change: Callable[[], None]) -> None:
        """Find what is here, once: a machine's GPUs change with a restart. Then watch."""
        pool = self._pool
        pool.is_sharing = settings.gpu_sharing
        pool.locks = HostLocks(Path(settings.gpu_lock_dir) if settings.gpu_lock_dir else None)
        try:
            found = await self._find(settings)
        except Exception:
            log.exception("GPUs are not looked for: an error of ours")
            found = ()
        found = chosen(found, settings.gpus)
        pool.gpus = found
        if settings.gpu_selftest:
            for gpu in found:
                if not pool.is_used(gpu.uuid):  # it works well enough for the job that has it from before
                    pool.set_aside(gpu.uuid, TESTING)
        pool.settle(
            found, neighbours.looker(settings, self._executors.daemon, self._system_id) if found else None
        )
        on_change()
        for uuid in pool.used - self._here if self._here else ():
            pool.on_aside(uuid, "it is not here any more since the runner was restarted")
        if not found:
            return
        log.info("GPUs: %s", ", ".join(f"{gpu.name} ({gpu.uuid})" for gpu in found))
        try:
            await self._watch(settings, on_change)
        finally:
            for task in self._testing.values():
                task.cancel()
            await asyncio.gather(*self._testing.values(), return_exceptions=True)
            for source in (self._health, self._monitor):
                if source is not None and self._looking is None:
                    await asyncio.to_thread(source.close)

    # ---- finding

    async def _find(self, settings: Settings) -> tuple[Gpu, ...]:
        if settings.gpus == "none":
            return ()
        is_contained = containers.own_container_id(containers.read_mountinfo()) is not None
        found = await asyncio.to_thread(self._ask_driver)
        if found:
            self._here = frozenset(gpu.uuid for gpu in found)
            return self._limits.apply(found, is_whole_machine=not is_contained)
        probed = await asyncio.to_thread(
            gpu_probe.ask_daemons, settings, self._executors.daemon, self._system_id
        )
        if probed.gpus:
            self._here = frozenset(gpu.uuid for gpu in probed.gpus)
            self._monitor = GpuMonitor(probed.api, probed.own_container, self._system_id, probed.gpus)
            self._pool.read_use = self._monitor.use
        return self._limits.apply(probed.gpus, is_whole_machine=True)

    def _ask_driver(self) -> tuple[Gpu, ...]:
        nvml = self._nvml or library()
        found = find_gpus(nvml) if nvml is not None else ()
        if not found:
            return ()
        self._health = Health(found, nvml)
        self._health.open()
        return reachable(found, self._health.minor)

    # ---- watching

    async def _watch(self, settings: Settings, on_change: Callable[[], None]) -> None:
        while True:
            try:
                self._begin_tests(settings, on_change)
                await asyncio.sleep(_WATCH_EVERY_S)
                self._pool.hold_on()
                ours = self._pool.used | {gpu.uuid for gpu in self._pool.gpus}
                for uuid, reason in (await self._look()).items():
                    if uuid in ours:
                        self._again[uuid] = (time.monotonic() + _AGAIN_S, 0.0)
                        self._pool.set_aside(uuid, reason)
                        on_change()
            except Exception:  # whatever it is, GPUs must stay watched
                log.exception("GPUs are not looked at now: an error of ours")
                await asyncio.sleep(_WATCH_EVERY_S)

    def _begin_tests(self, settings: Settings, on_change: Callable[[], None]) -> None:
        """Of all that are set aside, that nobody uses and whose time has come; at the same time."""
        pool, now = self._pool, time.monotonic()
        for uuid, reason in pool.aside.items():
            is_due = reason == TESTING or now >= self._again.get(uuid, (0.0, 0.0))[0]
            gpu = next((gpu for gpu in pool.gpus if gpu.uuid == uuid), None)
            if gpu is None or not is_due or pool.is_used(uuid) or uuid in self._testing:
                continue
            if pool.locks.take(uuid):  # else another runner's job has it
                self._testing[uuid] = asyncio.create_task(self._test(settings, gpu, on_change))

    async def _look(self) -> dict[str, str]:
        """What is wrong and was not told before: a test that was passed since then is not overruled by it."""
        source = self._health or self._monitor
        if source is None:
            return {}
        if self._health is None and not self._pool.used:
            await asyncio.to_thread(source.close)
            return {}
        looking = self._looking or asyncio.ensure_future(asyncio.to_thread(source.problems))
        await asyncio.wait({looking}, timeout=_PATIENCE_S)
        self._looking = None if looking.done() else looking
        if not looking.done():  # what runs may go on, but nothing more is begun there
            unused = (gpu.uuid for gpu in self._pool.gpus if gpu.uuid not in self._pool.used)
            return dict.fromkeys(unused, f"the driver does not answer for {_PATIENCE_S:.0f} s")
        found = looking.result()
        fresh = {uuid: reason for uuid, reason in found.items() if self._told.get(uuid) != reason}
        self._told = found
        return fresh

    async def _test(self, settings: Settings, gpu: Gpu, on_change: Callable[[], None]) -> None:
        """Take it back when it passes; else try again later, each time twice as long after."""
        waited_s = self._again.get(gpu.uuid, (0.0, 0.0))[1]
        try:
            results = await self._tests.test(settings, gpu)
            problem = "; ".join(result.detail for result in results if not result.is_ok)
        except Exception as error:
            log.exception("self-test of %s: an error of ours", gpu.uuid)
            problem = f"{type(error).__name__}: {error}"
        finally:
            self._pool.locks.drop([gpu.uuid])
            del self._testing[gpu.uuid]
        if problem:
            wait_s = min(max(2 * waited_s, _AGAIN_S), _AGAIN_AT_MOST_S)
            self._again[gpu.uuid] = (time.monotonic() + wait_s, wait_s)
            self._pool.set_aside(gpu.uuid, f"failed its self-test: {problem}")
        else:
            self._again.pop(gpu.uuid, None)
            self._pool.restore(gpu.uuid)
        on_change()
