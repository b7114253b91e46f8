"""Which things of ours are in use just now; also for pruning, which works in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InUse:
    """By name; several may use one at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._counts[name] -= 1
                if not self._counts[name]:
                    del self._counts[name]

    def has(self, name: str) -> bool:
        return name in self._counts

    @contextmanager
    def unless(self, name: str) -> Iterator[bool]:
        """Whether it is free; nobody begins to use any until the block ends, so it shall be short."""
        with self._lock:
            yield name not in self._counts
