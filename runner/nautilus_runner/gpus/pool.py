"""Who has which GPU: to one job at a time, or in shares to jobs that all ask for a share.

Wishes are served in the order of asking. One that can't be served yet keeps what it waits for from all that came
later, so a large wish is not starved by small ones; what it could not use anyway goes on to others. Each gets
the smallest GPUs that do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nautilus_runner.errors import JobMisconfigured, SystemFailure
from nautilus_runner.gpu import Allotment, Gpu, GpuUse, usage
from nautilus_runner.gpus.locks import HostLocks
from nautilus_runner.gpus.wish import Wish

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 2.0
"""Nobody tells us when another runner of this machine gives a GPU back."""
TESTING = "is being tested"

Elsewhere = Callable[[], Awaitable[frozenset[str]]]


@dataclass(slots=True, eq=False)
class _Waiting:
    wish: Wish
    answer: asyncio.Future[Allotment]


async def _nowhere() -> frozenset[str]:
    return frozenset()


class GpuPool:
    """`locks` keep other runners of this machine away, `elsewhere` tells what such a one has given out already."""

    def __init__(
        self, gpus: Sequence[Gpu] = (), *, is_settled: bool = True, locks: HostLocks | None = None
    ) -> None:
        """`is_settled` False: GPUs are still looked for; a job that wants some waits for `settle`."""
        self.gpus = tuple(gpus)
        self.is_sharing = True
        self.on_aside: Callable[[str, str], None] = lambda uuid, reason: None
        """Hears of each GPU that is set aside, and why."""
        self.read_use: Callable[[Iterable[str]], Mapping[str, GpuUse]] = usage
        """What GPUs do now; blocks."""
        self.locks = locks or HostLocks(None)
        self._elsewhere: Elsewhere = _nowhere
        self._taken_elsewhere: frozenset[str] = frozenset()
        self._users: dict[str, list[Allotment]] = {}
        self._aside: dict[str, str] = {}
        self._queue: list[_Waiting] = []
        self._looking: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        if is_settled:
            self._settled.set()

    def settle(self, gpus: Sequence[Gpu], elsewhere: Elsewhere | None = None) -> None:
        """These are all; what jobs have already stays theirs."""
        self.gpus = tuple(gpus)
        self._elsewhere = elsewhere or _nowhere
        self.hold_on()
        self._settled.set()
        self._serve()

    # ---- taking

    async def take(self, wish: Wish, say: Callable[[str], None] = lambda words: None) -> Allotment:
        """Wait for what `wish` asks for; `say` hears why there is a wait, if there is.

        Raises JobMisconfigured where this machine never has that, SystemFailure where it would if its GPUs were well.
        """
        if wish.count == 0:
            return Allotment()
        await self._settled.wait()
        self._refuse_impossible(wish)
        self._taken_elsewhere = await self._elsewhere()
        waiting = _Waiting(wish, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._serve()
        try:
            if not waiting.answer.done():
                say(self._why_waiting(waiting))
                self._keep_looking()
            return await waiting.answer
        except asyncio.CancelledError:
            if waiting.answer.done() and not waiting.answer.cancelled() and not waiting.answer.exception():
                self.give_back(waiting.answer.result())
            raise
        finally:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._serve()  # what it kept from others is theirs now

    def claim(self, uuids: Iterable[str], share_mib: int = 0) -> Allotment:
        """Mark GPUs as taken that a job already has (after a restart). Its supervisor may hold the locks."""
        allotment = Allotment(tuple(uuids), share_mib)
        for uuid in allotment.uuids:
            self._users.setdefault(uuid, []).append(allotment)
            self.locks.take(uuid)
        return allotment

    def give_back(self, allotment: Allotment) -> None:
        """The job is over; giving back what is not held any more changes nothing."""
        for uuid in allotment.uuids:
            users = self._users.get(uuid, [])
            users[:] = [user for user in users if user is not allotment]
            if not users:
                self._users.pop(uuid, None)
                self.locks.drop([uuid])
        self._serve()

    def lock_files(self, allotment: Allotment) -> tuple[int, ...]:
        """What the supervisor of a job's processes inherits, to hold on to the GPUs while we are away."""
        return self.locks.files(allotment.uuids)

    def hold_on(self) -> None:
        """Take the locks of what jobs have from before: their supervisors held them while we were away."""
        for uuid in self._users:
            self.locks.take(uuid)

    # ---- health

    def set_aside(self, uuid: str, reason: str) -> None:
        """No job gets it until `restore`; who has it is told by `on_aside` unless it is only tested."""
        if self._aside.get(uuid) == reason:
            return
        self._aside[uuid] = reason
        if reason != TESTING:
            log.error("GPU %s is set aside: %s", uuid, reason)
            self.on_aside(uuid, reason)
            self._serve()

    def restore(self, uuid: str) -> None:
        reason = self._aside.pop(uuid, TESTING)
        if reason != TESTING:
            log.info("GPU %s is well again", uuid)
        self._serve()

    @property
    def aside(self) -> Mapping[str, str]:
        """The GPUs that no job gets at present, and why."""
        return dict(self._aside)

    @property
    def used(self) -> frozenset[str]:
        """The UUIDs of what jobs have."""
        return frozenset(self._users)

    def is_used(self, uuid: str) -> bool:
        return uuid in self._users

    @property
    def free(self) -> int:
        """GPUs that nobody has any part of."""
        return sum(self._is_free(gpu) for gpu in self.gpus)

    def states(self) -> list[dict[str, Any]]:
        """For status.json: each GPU with `state` (free, busy, shared, aside) and, where it is not free, `reason`."""
        return [{**gpu.as_json(), **self._state(gpu)} for gpu in self.gpus]

    def _state(self, gpu: Gpu) -> dict[str, Any]:
        users = self._users.get(gpu.uuid, [])
        if gpu.uuid in self._aside:
            return {"state": "aside", "reason": self._aside[gpu.uuid]}
        if users and users[0].share_mib:
            shared = sum(user.share_mib for user in users)
            return {"state": "shared", "reason": f"{len(users)} jobs use {shared} MiB of it"}
        if users:
            return {"state": "busy", "reason": "a job has it"}
        if gpu.uuid in self._taken_elsewhere:
            return {"state": "busy", "reason": "another runner of this machine has given it out"}
        return {"state": "free", "reason": ""}

    # ---- choosing

    def _serve(self) -> None:
        """Give out what can be given, in the order of asking."""
        kept: set[str] = set()  # for who waits longer
        for waiting in list(self._queue):
            if waiting.answer.done():
                continue
            fitting = [gpu for gpu in self.gpus if waiting.wish.fits(gpu)]
            if problem := self._no_hope(waiting.wish, fitting):
                waiting.answer.set_exception(problem)
                continue
            given = self._choose(waiting.wish, [gpu for gpu in fitting if gpu.uuid not in kept])
            if given is None:
                kept.update(gpu.uuid for gpu in fitting)
                continue
            allotment = Allotment(tuple(gpu.uuid for gpu in given), waiting.wish.share_mib)
            for uuid in allotment.uuids:
                self._users.setdefault(uuid, []).append(allotment)
            waiting.answer.set_result(allotment)

    def _choose(self, wish: Wish, among: Sequence[Gpu]) -> list[Gpu] | None:
        free = sorted((gpu for gpu in among if self._is_free(gpu)), key=lambda gpu: gpu.memory_mib)
        if wish.share_mib:
            partly = sorted((gpu for gpu in among if self._room(gpu) >= wish.share_mib), key=self._room)
            return self._locked([*partly, *free], 1)
        if wish.count > 1:  # alike, if possible: one slow GPU would slow all of them down
            for _, group in groupby(sorted(free, key=_kind), key=_kind):
                alike = list(group)
                if len(alike) >= wish.count and (given := self._locked(alike, wish.count)):
                    return given
        return self._locked(free, wish.count)

    def _locked(self, order: Sequence[Gpu], count: int) -> list[Gpu] | None:
        """The first `count` that no other runner has; None, and nothing locked, where there are fewer."""
        given: list[Gpu] = []
        for gpu in order:
            if len(given) < count and self.locks.take(gpu.uuid):
                given.append(gpu)
        if len(given) == count:
            return given
        self.locks.drop(gpu.uuid for gpu in given if gpu.uuid not in self._users)
        return None

    def _is_free(self, gpu: Gpu) -> bool:
        return not (gpu.uuid in self._users or gpu.uuid in self._aside or gpu.uuid in self._taken_elsewhere)

    def _room(self, gpu: Gpu) -> int:
        """MiB that are left of a GPU that is shared already; -1 where it is not shared."""
        users = self._users.get(gpu.uuid, [])
        if gpu.uuid in self._aside or not users or not all(user.share_mib for user in users):
            return -1
        return gpu.memory_mib - sum(user.share_mib for user in users)

    # ---- words

    def _refuse_impossible(self, wish: Wish) -> None:
        if wish.share_mib and not self.is_sharing:
            raise JobMisconfigured(f"the job asks for {wish}, this runner shares none (gpu_sharing)")
        if sum(wish.fits(gpu) for gpu in self.gpus) < wish.count:
            raise JobMisconfigured(f"the job asks for {wish}, this runner has {inventory(self.gpus)}")

    def _no_hope(self, wish: Wish, fitting: Sequence[Gpu]) -> SystemFailure | None:
        """GPUs that are set aside may come back much later: the job is better off on another machine."""
        reasons = {
            gpu.uuid: self._aside[gpu.uuid]
            for gpu in fitting
            if self._aside.get(gpu.uuid, TESTING) != TESTING and gpu.uuid not in self._users
        }
        if len(fitting) - len(reasons) >= wish.count:
            return None
        told = "; ".join(f"{uuid}: {reason}" for uuid, reason in reasons.items())
        return SystemFailure(f"the job asks for {wish}, and of this runner's are set aside: {told}")

    def _why_waiting(self, waiting: _Waiting) -> str:
        fitting = [gpu for gpu in self.gpus if waiting.wish.fits(gpu)]
        states = (self._state(gpu) for gpu in fitting)
        busy = "; ".join(
            f"{gpu.uuid}: {state['reason']}"
            for gpu, state in zip(fitting, states, strict=True)
            if state["reason"]
        )
        before = self._queue.index(waiting)
        line = f" {before} before it in line." if before else ""
        free = sum(self._is_free(gpu) for gpu in fitting)
        return f"Waiting for {waiting.wish}; {free} of {len(fitting)} are free.{line}" + (
            f" {busy}." if busy else ""
        )

    # ---- other runners

    def _keep_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again())

    async def _look_again(self) -> None:
        while self._queue:
            await asyncio.sleep(_LOOK_AGAIN_S)
            self._taken_elsewhere = await self._elsewhere()
            self._serve()


def _kind(gpu: Gpu) -> tuple[int, str]:
    return (gpu.memory_mib, gpu.name)


def inventory(gpus: Sequence[Gpu]) -> str:
    """What a machine has, for people: `0 GPUs`, `2 GPUs (NVIDIA H200, 143771 MiB; …)`."""
    count = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    names = "; ".join(f"{gpu.name}, {gpu.memory_mib} MiB" for gpu in gpus)
    return f"{count} ({names})" if names else count
