"""New points of runs that somebody watches, kept for a moment in memory so that live curves cost no query.

Tracking is one process, so what it has committed it knows first. A watcher reads a run's curves from the database
once, page by page, then goes on here from where that reading began. Where the moment was too long (the buffer has
moved on, or the process is another), the watcher begins again with the database: points may come twice, never not.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from nautilus.tracking.points import Points

WATCHED_FOR_S = 120.0
MAX_POINTS = 50_000
MAX_RUNS = 500


@dataclass
class _Watched:
    until: float
    first: int
    """How many points had come before the oldest that is kept."""
    points: deque[tuple[str, int, int, float]] = field(default_factory=deque)

    @property
    def end(self) -> int:
        return self.first + len(self.points)


class Live:
    """One per process. Positions are numbers of points since the watch began; `epoch` tells processes apart."""

    def __init__(self, wake: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`wake(run_id)` is called after each committed write, watched or not."""
        self.epoch = secrets.token_hex(4)
        self._wake = wake
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._next_start = 1

    def watch(self, run_id: str) -> int:
        """Keeps the run's points from now on, for as long as somebody asks; the position of the next one."""
        now = self._clock()
        watched = self._watched.get(run_id)
        if watched is None:
            self._forget_old(now)
            # Positions of an earlier watch of the same run must not look valid.
            self._next_start += MAX_POINTS + 1
            watched = self._watched[run_id] = _Watched(now, self._next_start)
        watched.until = now + WATCHED_FOR_S
        return watched.end

    def committed(self, run_id: str, points: Points) -> None:
        """Says that these points are in the database."""
        watched = self._watched.get(run_id)
        if watched is not None:
            if watched.until < self._clock():
                del self._watched[run_id]
            else:
                self._append(watched, points)
        self._wake(run_id)

    def after(
        self, run_id: str, position: int, limit: int
    ) -> tuple[list[tuple[str, int, int, float]], int] | None:
        """Points (key, step, timestamp in ms, value) from `position` on and the next position; None: not kept."""
        watched = self._watched.get(run_id)
        if watched is None or not watched.first <= position <= watched.end:
            return None
        watched.until = self._clock() + WATCHED_FOR_S
        start = position - watched.first
        found = [watched.points[index] for index in range(start, min(start + limit, len(watched.points)))]
        return found, position + len(found)

    def _append(self, watched: _Watched, points: Points) -> None:
        watched.points.extend(
            zip(points.keys, points.steps, points.timestamps_ms, points.values, strict=True)
        )
        while len(watched.points) > MAX_POINTS:
            watched.points.popleft()
            watched.first += 1
        self._next_start = max(self._next_start, watched.end)

    def _forget_old(self, now: float) -> None:
        for run_id in [run_id for run_id, watched in self._watched.items() if watched.until < now]:
            del self._watched[run_id]
        while len(self._watched) >= MAX_RUNS:
            del self._watched[next(iter(self._watched))]
