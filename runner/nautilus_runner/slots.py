"""Room for jobs: `concurrent` on this machine, `limit` per registration, shared fairly among registrations.

A slot has a number, which its job keeps (CI_CONCURRENT_ID). It is

    reserved   while a server is asked for a job
    busy       with a job at work; never more of these than `concurrent`, but for jobs found again after a restart
    parked     with a job that waits for something else (a GPU, a place of its kind, memory): others may work meanwhile

Who was parked comes before who asks for a new job, and does not wait for a held request: where that brings a job
nevertheless, this one begins parked. Of parked jobs there are few: what else would only wait is left to others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable

MOST_PARKED = 4


class Slots:
    """Numbers are from 0; the lowest free one is given, to who waits longest."""

    def __init__(self, total: int, most_parked: int = MOST_PARKED) -> None:
        self._total = total
        self._most_parked = most_parked
        self._reserved: dict[int, Hashable] = {}
        self._busy: dict[int, Hashable] = {}
        self._parked: dict[int, Hashable] = {}
        self._queue: deque[tuple[Hashable, int, asyncio.Future[int]]] = deque()
        self._returning: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def busy(self) -> int:
        return len(self._busy)

    @property
    def parked(self) -> int:
        """Jobs that are here and wait."""
        return len(self._parked)

    @property
    def is_contended(self) -> bool:
        """Somebody waits for room that is only reserved: do not sit on it for a whole held request."""
        is_open = len(self._busy) < self._total and len(self._parked) < self._most_parked
        return is_open and bool(self._queue) and bool(self._reserved)

    def resize(self, total: int, most_parked: int = MOST_PARKED) -> None:
        self._total = total
        self._most_parked = most_parked
        self._serve()

    async def take(self, owner: Hashable, limit: int) -> int:
        """Wait for room to ask for a job; `limit` 0: only the machine's own bound counts."""
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((owner, limit, waiter))
        self._serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_back(waiter.result())
            raise
        finally:
            self._queue = deque(item for item in self._queue if item[2] is not waiter)

    def use(self, number: int) -> None:
        """A reserved slot has its job, which is at work, or is parked where others took the room meanwhile."""
        owner = self._reserved.pop(number)
        held = self._busy if len(self._busy) < self._total else self._parked
        held[number] = owner

    def occupy(self, owner: Hashable) -> int:
        """A slot for a job that is there already, whether there is room or not."""
        number = self._lowest()
        self._busy[number] = owner
        return number

    def park(self, number: int) -> None:
        """Its job waits for something else; where it is not at work, nothing changes."""
        if number in self._busy:
            self._parked[number] = self._busy.pop(number)
            self._serve()

    async def resume(self, number: int, say: Callable[[str], None] = lambda _: None) -> None:
        """Wait until the job of this slot is at work, as it is unless it was parked; `say` hears of a wait."""
        if number not in self._parked:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returning.append((number, turn))
        self._serve()
        if not turn.done():
            say(f"waiting for a slot: {len(self._busy)} of {self._total} have a job at work")
        try:
            await turn
        finally:
            self._returning = deque(item for item in self._returning if item[1] is not turn)

    def give_back(self, number: int) -> None:
        for held in (self._reserved, self._busy, self._parked):
            held.pop(number, None)
        self._serve()

    def _serve(self) -> None:
        for number, turn in self._returning:
            if len(self._busy) < self._total and number in self._parked and not turn.done():
                self._busy[number] = self._parked.pop(number)
                turn.set_result(None)
        for owner, limit, waiter in list(self._queue):
            is_full = len(self._reserved) + len(self._busy) >= self._total
            if is_full or len(self._parked) >= self._most_parked:
                return
            held = Counter([*self._reserved.values(), *self._busy.values(), *self._parked.values()])
            if waiter.done() or (limit and held[owner] >= limit):
                continue
            number = self._lowest()
            self._reserved[number] = owner
            waiter.set_result(number)

    def _lowest(self) -> int:
        number = 0
        while number in self._reserved or number in self._busy or number in self._parked:
            number += 1
        return number
