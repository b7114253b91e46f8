"""Room for jobs: `concurrent` on this machine, `limit` per registration, shared fairly among registrations."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable


class Slots:
    """Slots have numbers from 0 (CI_CONCURRENT_ID); the lowest free one is given, to who waits longest.

    A slot is first reserved (while a server is asked), then busy (`use`) or given back.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._reserved: dict[int, Hashable] = {}
        self._busy: dict[int, Hashable] = {}
        self._queue: deque[tuple[Hashable, int, asyncio.Future[int]]] = deque()

    @property
    def busy(self) -> int:
        return len(self._busy)

    @property
    def is_contended(self) -> bool:
        """Somebody waits for room that is only reserved: do not sit on it for a whole held request."""
        return bool(self._queue) and bool(self._reserved)

    def resize(self, total: int) -> None:
        self._total = total
        self._serve()

    async def take(self, owner: Hashable, limit: int) -> int:
        """Wait for room; `limit` 0: only the machine's own bound counts."""
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
        """A reserved slot has its job."""
        self._busy[number] = self._reserved.pop(number)

    def occupy(self, owner: Hashable) -> int:
        """A slot for a job that is there already, whether there is room or not."""
        number = self._lowest()
        self._busy[number] = owner
        return number

    def give_back(self, number: int) -> None:
        self._reserved.pop(number, None)
        self._busy.pop(number, None)
        self._serve()

    def _serve(self) -> None:
        for item in list(self._queue):
            owner, limit, waiter = item
            if len(self._reserved) + len(self._busy) >= self._total:
                return
            held = Counter([*self._reserved.values(), *self._busy.values()])
            if waiter.done() or (limit and held[owner] >= limit):
                continue
            number = self._lowest()
            self._reserved[number] = owner
            waiter.set_result(number)

    def _lowest(self) -> int:
        number = 0
        while number in self._reserved or number in self._busy:
            number += 1
        return number
