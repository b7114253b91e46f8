"""Watches one job: looks every few seconds at what it uses, tells, and ends it where only watching keeps a limit.

The kernel keeps the limits that it can (control groups, the daemon). What it can't keep is kept here: disk, idle GPUs,
and memory and processes where there is no control group. How often the disk is counted depends on how long that takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from nautilus_runner.errors import DiskExceeded, GpuIdle, JobError, OutOfMemory, PidsExceeded
from nautilus_runner.gpu import GpuUse
from nautilus_runner.limits import DISK, IDLE_GPU, MEMORY, PIDS, Limits
from nautilus_runner.usage.reading import Reading, Usage

log = logging.getLogger(__name__)

EVERY_S = 5.0
_FIRST_S = (0.5, 0.5, 1.0, 1.0, 2.0)  # short jobs are seen too
_WATCHED_EVERY_S = 0.5  # where nobody else keeps a limit
_SHARE = 100  # looking takes at most one part in so many of the time
_MIB = 1 << 20
_IDLE_PERCENT = 1


class Probe(Protocol):
    """What an executor tells of its running script."""

    async def usage(self) -> Reading | None:
        """None: nothing runs, or it can't be told."""

    async def disk_bytes(self) -> int | None:
        """What the job holds on disk; None: it can't be told. May take long."""

    def watched(self) -> frozenset[str]:
        """Of `memory` and `pids`, the limits that nobody keeps but us."""


class Meter:
    """`end` ends the job with an error; `on_look` hears of each look. `usage` is there from the beginning."""

    def __init__(self) -> None:
        self.usage = Usage()
        self._idle_since: float | None = None
        self._is_ended = False

    @asynccontextmanager
    async def watching(
        self,
        probe: Probe,
        limits: Limits,
        end: Callable[[JobError], None],
        gpus: Callable[[], tuple[str, ...]] = tuple,
        read_gpus: Callable[[tuple[str, ...]], Mapping[str, GpuUse]] = lambda _: {},
        on_look: Callable[[Usage], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[None, None]:
        tasks = [
            asyncio.create_task(self._look(probe, limits, end, gpus, read_gpus, on_look)),
            asyncio.create_task(self._look_at_disk(probe, limits, end)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(
        self,
        probe: Probe,
        limits: Limits,
        end: Callable[[JobError], None],
        gpus: Callable[[], tuple[str, ...]],
        read_gpus: Callable[[tuple[str, ...]], Mapping[str, GpuUse]],
        on_look: Callable[[Usage], Awaitable[None]] | None,
    ) -> None:
        looks = 0
        took_s = 0.0
        while True:
            pause_s = _FIRST_S[looks] if looks < len(_FIRST_S) else EVERY_S
            if probe.watched() & _limited(limits):
                pause_s = min(pause_s, max(_WATCHED_EVERY_S, took_s * _SHARE))
            await asyncio.sleep(pause_s)
            try:
                began = time.monotonic()
                reading = await probe.usage()
                took_s = time.monotonic() - began
                if reading is None:
                    continue
                looks += 1
                self.usage.take(reading)
                self._keep(limits, probe.watched(), reading, end)
                if uuids := gpus():
                    use = await asyncio.to_thread(read_gpus, uuids)
                    self.usage.take_gpus(uuids, use)
                    self._keep_busy(limits, use, end)
                if on_look is not None:
                    await on_look(self.usage)
            except JobError as error:
                log.debug("no usage: %s", error)
            except Exception:
                log.exception("usage: an error of ours")
                await asyncio.sleep(EVERY_S)

    async def _look_at_disk(self, probe: Probe, limits: Limits, end: Callable[[JobError], None]) -> None:
        pause_s = 1.0
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            used = None
            with contextlib.suppress(JobError):
                used = await probe.disk_bytes()
            took_s = time.monotonic() - began
            pause_s = max(1.0 if limits.disk_mib else EVERY_S, took_s * _SHARE)
            if limits.disk_mib:  # a limit is kept within a minute, whatever that costs
                pause_s = min(pause_s, 60.0)
            if used is None:
                continue
            self.usage.take_disk(used)
            if limits.disk_mib and used > limits.disk_mib * _MIB:
                shown = f"{used / _MIB:.0f} MiB of the {limits.disk_mib} MiB that it may"
                self._end(DiskExceeded(f"the job holds {shown} on disk; ask for more with {DISK}"), end)

    def _keep(
        self, limits: Limits, watched: frozenset[str], reading: Reading, end: Callable[[JobError], None]
    ) -> None:
        memory, pids = reading.memory_bytes, reading.pids
        if "memory" in watched and limits.memory_mib and memory and memory > limits.memory_mib * _MIB:
            self._end(OutOfMemory(memory_words(memory, limits.memory_mib)), end)
        if "pids" in watched and limits.pids and pids and pids > limits.pids:
            self._end(PidsExceeded(f"{pids} processes, {limits.pids} are allowed ({PIDS})"), end)

    def _keep_busy(self, limits: Limits, use: Mapping[str, GpuUse], end: Callable[[JobError], None]) -> None:
        """All of a job's GPUs idle for too long: others wait for them. One that tells no use counts as busy."""
        told = [one.utilization_percent for one in use.values()]
        is_idle = bool(told) and all(percent is not None and percent < _IDLE_PERCENT for percent in told)
        now = time.monotonic()
        if not is_idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif limits.idle_gpu_s and now - self._idle_since >= limits.idle_gpu_s:
            words = f"no GPU of the job did anything for {limits.idle_gpu_s:g} seconds ({IDLE_GPU})"
            self._end(GpuIdle(words), end)

    def _end(self, error: JobError, end: Callable[[JobError], None]) -> None:
        if not self._is_ended:
            self._is_ended = True
            end(error)


def memory_words(used_bytes: int, limit_mib: int) -> str:
    """What an end for want of memory says."""
    shown = f"peak {used_bytes / _MIB:.0f} MiB of the {limit_mib} MiB that the job may use"
    return f"{shown}; ask for more with {MEMORY}, or use less"


def _limited(limits: Limits) -> frozenset[str]:
    """What is limited at all."""
    there = {"memory": limits.memory_mib, "pids": limits.pids}
    return frozenset(name for name, limit in there.items() if limit)
