"""The registrations that this machine serves: they come and go with the settings, each asks its server for jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from nautilus_runner.asking import Asking, Registration, identity_of
from nautilus_runner.client import Coordinator
from nautilus_runner.errors import ConfigurationError
from nautilus_runner.network.probing import Prober
from nautilus_runner.settings import RunnerSettings

log = logging.getLogger(__name__)


class Serving:
    """`make_client` makes the client of a registration; `is_using` tells whether a job uses one.

    A client is shared with the jobs that came through it, and closed with the last of them.
    """

    def __init__(
        self,
        asking: Asking,
        prober: Prober,
        make_client: Callable[[RunnerSettings], Coordinator],
        is_using: Callable[[Coordinator], bool],
    ) -> None:
        self._asking = asking
        self._prober = prober
        self._make_client = make_client
        self._is_using = is_using
        self._registrations: dict[tuple[str, ...], Registration] = {}
        self._is_stopping = False

    @property
    def registrations(self) -> list[Registration]:
        return list(self._registrations.values())

    def apply(self, runners: Iterable[RunnerSettings]) -> None:
        """Serve these, and no others; who stays is not disturbed in a held request."""
        wanted = {identity_of(runner): runner for runner in runners}
        for identity in set(self._registrations) - set(wanted):
            self._leave(self._registrations.pop(identity))
        for identity, runner in wanted.items():
            joined = self._registrations.get(identity)
            if joined is None:
                joined = self._registrations[identity] = Registration(runner)
                joined.task = asyncio.create_task(self._serve(joined))
            elif joined.settings == runner:
                continue
            joined.settings = runner
            self._probe(joined)

    async def stop(self) -> None:
        """Ask for no more jobs, for good."""
        self._is_stopping = True
        tasks = [task for r in self.registrations for task in (r.task, r.probing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def release(self, client: Coordinator) -> None:
        """Close a client that nobody uses any more."""
        is_asking = any(r.client is client and r.task and not r.task.done() for r in self.registrations)
        if not self._is_using(client) and (self._is_stopping or not is_asking):
            await client.close()

    async def _serve(self, registration: Registration) -> None:
        """Ask one server for jobs until cancelled."""
        try:
            client = self._make_client(registration.settings)
        except ConfigurationError as error:
            self._asking.say(registration, str(error))
            return
        registration.client = client
        try:
            await self._asking.run(registration, client)
        finally:
            await asyncio.shield(self.release(client))

    def _leave(self, registration: Registration) -> None:
        for task in (registration.task, registration.probing):
            if task is not None:
                task.cancel()
        self._prober.forget(registration.settings.label)

    def _probe(self, registration: Registration) -> None:
        """Ask, beside everything else, whether jobs reach what they are told of."""
        if registration.probing is not None:
            registration.probing.cancel()
        watching = self._prober.watch(registration.settings, lambda: not registration.reason)
        registration.probing = asyncio.create_task(watching)
