"""How the service ends: what the first signal asks for, and what each further one hastens.

SIGTERM, SIGINT   as `on_stop` says: detach (jobs run on, the next start takes them up), drain, or end
SIGUSR1           drain: take no more, wait for the jobs, end. The next signal hands back: jobs that have not
                  begun go back to the server, the others are left (or preempted, `on_second_stop`)
SIGQUIT           end: the jobs are ended and reported; also as a second signal
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from nautilus_runner.settings import Settings

if TYPE_CHECKING:
    from nautilus_runner.agent import Agent

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
_LOOK_EVERY_S = 5.0

Step = Callable[[], Coroutine[Any, Any, None]]


class Ending:
    """One end of the service. `signals` brings those that come after the first."""

    def __init__(self, agent: Agent, settings: Settings, signals: asyncio.Queue[int]) -> None:
        self._agent = agent
        self._settings = settings
        self._signals = signals

    async def run(self, first: int | None) -> None:
        """`first` None: the service ends by itself, when it has nothing more to do."""
        steps = self._steps(first)
        while steps:
            step = asyncio.create_task(steps.pop(0)())
            told = asyncio.create_task(self._signals.get())
            await asyncio.wait({step, told}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                told.cancel()
                step.result()
                return
            step.cancel()
            if told.result() == signal.SIGQUIT and steps:
                steps = [self._end]
        log.warning("told again: ending at once")

    def _steps(self, first: int | None) -> list[Step]:
        if first == signal.SIGQUIT:
            return [self._end]
        how = "drain" if first == signal.SIGUSR1 else "detach" if first is None else self._settings.on_stop
        if how == "drain":
            return [self._drain, self._hand_back]
        return [self._end] if how == "end" else [self._agent.detach]

    async def _drain(self) -> None:
        """Without a bound: how long jobs take is theirs."""
        log.info("draining: takes no more jobs, ends with the last of %d", len(self._agent.jobs))
        await self._agent.stop_taking()
        while self._agent.jobs:
            await self._agent.until_change(_LOOK_EVERY_S)
        await self._agent.detach()

    async def _hand_back(self) -> None:
        log.info("handing back what has not begun")
        is_preempting = self._settings.on_second_stop == "preempt"
        await self._agent.hand_back(self._settings.shutdown_grace_s, is_preempting=is_preempting)

    async def _end(self) -> None:
        await self._agent.end_jobs(self._settings.shutdown_grace_s)
