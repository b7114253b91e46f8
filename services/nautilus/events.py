"""Wakes waiters of this process when something about an experiment changed. A hint: pollers stand behind
it."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Events:
    """Topics are experiments' MLflow run ids. One per process; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.is_closed = False

    def publish(self, topic: str) -> None:
        """Wakes all who wait for `topic` now; costs a dictionary look-up where nobody does."""
        for waiter in self._waiters.get(topic, ()):
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Wakes everybody for the last time: the service ends."""
        self.is_closed = True
        for topic in list(self._waiters):
            self.publish(topic)

    async def wait(self, topic: str, timeout_s: float) -> bool:
        """True when something was published meanwhile, False after `timeout_s`."""
        if self.is_closed:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[topic].add(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return False
        else:
            return True
        finally:
            waiters = self._waiters[topic]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[topic]
