"""What this machine has for its jobs, of all registrations together: cpus, memory, disk, and places for each kind.

Small jobs pass a large one that does not fit yet, but not for ever: once it has waited for `patience_s`, what gets
free is kept for it. Slots (slots.py) are another matter: they bound how many jobs are at work; one that waits here
has none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.limit_settings import CapacitySettings, KindSettings
from nautilus_runner.limits import Limits, possible_kinds

_MIB = 1 << 20
_IN_LINE = "waiting behind a job that has waited longer"


@dataclass(frozen=True, slots=True)
class Room:
    """0: not counted."""

    cpus: float = 0.0
    memory_mib: int = 0
    disk_mib: int = 0


@dataclass(slots=True)
class _Waiter:
    key: str
    need: Limits
    say: Callable[[str], None]
    since: float
    turn: asyncio.Future[None]
    told: str = ""


class Capacity:
    """Who has what. `now` is the clock (monotonic seconds), to be replaced in tests."""

    def __init__(self, total: Room = Room(), now: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._now = now
        self._patience_s = 120.0
        self.kinds: tuple[KindSettings, ...] = ()
        self._kinds: dict[str, int] = {}
        self._held: dict[str, Limits] = {}
        self._queue: list[_Waiter] = []
        self._changed = asyncio.Event()

    def resize(self, total: Room, patience_s: float, kinds: tuple[KindSettings, ...] = ()) -> None:
        """New settings: what jobs have already stays theirs."""
        self.total = total
        self._patience_s = patience_s
        self.kinds = kinds
        self._kinds = {kind.name: kind.limit for kind in kinds}
        self._serve()

    @property
    def used(self) -> Room:
        held = self._held.values()
        return Room(
            round(sum(one.cpus for one in held), 3),
            sum(one.memory_mib for one in held),
            sum(one.disk_mib for one in held),
        )

    async def until_welcome(self, usual: Limits, registration: str = "") -> None:
        """Wait while any job that may come through the registration of this name would only wait here: others have
        room for it, perhaps. `usual` is what a job has that asks for nothing."""
        while (self._held and self._shortfall(usual)) or not self._may_run(registration):
            self._changed.clear()
            await self._changed.wait()

    async def take(self, key: str, need: Limits, say: Callable[[str], None] = lambda _: None) -> None:
        """Wait until the job fits; `say` hears why it waits, each time that the reason changes ("": no more).

        Raises JobMisconfigured, naming the shortfall, where it never will.
        """
        if refusal := self._impossible(need):
            raise JobMisconfigured(refusal)
        waiter = _Waiter(key, need, say, self._now(), asyncio.get_running_loop().create_future())
        self._queue.append(waiter)
        self._serve()
        try:
            while not waiter.turn.done():  # patience runs out by the clock, not only when somebody leaves
                await asyncio.wait({waiter.turn}, timeout=max(self._patience_s, 1.0))
                self._serve()
        except asyncio.CancelledError:
            self._held.pop(key, None)
            raise
        finally:
            self._queue = [one for one in self._queue if one is not waiter]
            self._serve()
        if waiter.told:
            say("")

    def claim(self, key: str, need: Limits) -> None:
        """A job that runs already (after a restart) has this, whether there is room or not."""
        self._held[key] = need

    def give_back(self, key: str) -> None:
        if self._held.pop(key, None) is not None:
            self._serve()

    def as_json(self) -> dict[str, Any]:
        total, used = self.total, self.used
        return {
            "cpus": {"total": total.cpus, "used": used.cpus},
            "memory_mib": {"total": total.memory_mib, "used": used.memory_mib},
            "disk_mib": {"total": total.disk_mib, "used": used.disk_mib},
            "kinds": {
                name: {"limit": limit, "running": self._running(name)} for name, limit in self._kinds.items()
            },
        }

    def _serve(self) -> None:
        self._changed.set()
        for waiter in list(self._queue):
            if waiter.turn.done():
                continue
            shortfall = self._impossible(waiter.need) or self._shortfall(waiter.need)
            if not shortfall:
                self._held[waiter.key] = waiter.need
                waiter.turn.set_result(None)
                continue
            self._tell(waiter, shortfall)
            # one that waits for its kind holds nobody else up
            is_for_room = self._has_place(waiter.need.kind)
            if is_for_room and self._now() - waiter.since >= self._patience_s:
                break
        for waiter in self._queue:
            if not waiter.turn.done() and not waiter.told:
                self._tell(waiter, _IN_LINE)

    def _tell(self, waiter: _Waiter, why: str) -> None:
        if waiter.told != why:
            waiter.told = why
            waiter.say(why)

    def _impossible(self, need: Limits) -> str:
        return _short("the job asks for", need, self.total, "this runner has", self.total)

    def _shortfall(self, need: Limits) -> str:
        if not self._has_place(need.kind):
            running = self._running(need.kind)
            return f"waiting for a place among {need.kind} jobs: {running} of {self._kinds[need.kind]} run"
        total, used = self.total, self.used
        free = Room(
            total.cpus - used.cpus, total.memory_mib - used.memory_mib, total.disk_mib - used.disk_mib
        )
        return _short("waiting for", need, free, "free are", total)

    def _may_run(self, registration: str) -> bool:
        """Whether one of the kinds that jobs of this registration can be of has a place."""
        return any(
            kind is None or self._has_place(kind.name) for kind in possible_kinds(registration, self.kinds)
        )

    def _has_place(self, kind: str) -> bool:
        limit = self._kinds.get(kind, 0)
        return not limit or self._running(kind) < limit

    def _running(self, kind: str) -> int:
        return sum(one.kind == kind for one in self._held.values())


def _short(verb: str, need: Limits, free: Room, have: str, total: Room) -> str:
    """What is missing, in words; "" where nothing is. What is not counted in `total` is never missing."""
    missing = []
    if total.cpus and need.cpus > free.cpus + 1e-6:
        missing.append((f"{need.cpus:g} cpus", f"{max(0.0, free.cpus):g}"))
    if total.memory_mib and need.memory_mib > free.memory_mib:
        missing.append((f"{need.memory_mib} MiB of memory", f"{max(0, free.memory_mib)} MiB"))
    if total.disk_mib and need.disk_mib > free.disk_mib:
        missing.append((f"{need.disk_mib} MiB of disk", f"{max(0, free.disk_mib)} MiB"))
    return "; ".join(f"{verb} {what}, {have} {amount}" for what, amount in missing)


def machine_room(settings: CapacitySettings, data_dir: Path) -> Room:
    """What the settings say, else what this machine has, as far as our own control group lets us."""
    from nautilus_runner.cgroup_tree import own_bounds

    bounds = own_bounds()
    cpus = float(len(os.sched_getaffinity(0)))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Room(
        settings.cpus or min(cpus, bounds.cpus or cpus),
        settings.memory_mib or min(memory, bounds.memory_bytes or memory) // _MIB,
        settings.disk_mib or shutil.disk_usage(data_dir).free // _MIB,
    )
