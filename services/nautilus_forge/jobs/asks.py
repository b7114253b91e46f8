"""Runners that ask for a job at this moment: gathered, so that one transaction serves all that came meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nautilus_forge.runners.identity import RunnerIdentity

_AT_ONCE = 64


@dataclass(eq=False)
class Ask:
    """`features`: what the runner says that it can do. `has_left`: nobody waits for the answer any more.

    `answer`: the payload of the job that it gets, None where there is none for it.
    """

    runner: RunnerIdentity
    manager_id: int | None
    features: dict[str, bool]
    has_left: Callable[[], bool]
    answer: asyncio.Future[dict[str, Any] | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def is_gone(self) -> bool:
        return self.answer.cancelled() or self.has_left()

    def answered(self, payload: dict[str, Any] | None) -> None:
        if not self.answer.done():
            self.answer.set_result(payload)

    def failed(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Asks:
    """Who has not been served yet, in the order of coming. `is_served`: somebody works on them."""

    def __init__(self) -> None:
        self._waiting: list[Ask] = []
        self.is_served = False

    def add(self, ask: Ask) -> None:
        self._waiting.append(ask)

    def next_batch(self) -> list[Ask]:
        """The next ones to serve together, those included that have gone meanwhile; empty when nobody asks."""
        batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        return batch
