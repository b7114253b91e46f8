"""One registration asks its server for jobs: one request at a time, held there, while this machine has room."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nautilus_runner.capacity import Capacity
from nautilus_runner.client import Coordinator, Offer
from nautilus_runner.errors import ForbiddenError, JobError, ServerError, UnavailableError
from nautilus_runner.limits import usual_limits
from nautilus_runner.quota import Quota
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.slots import Slots

log = logging.getLogger(__name__)

_POLL_S = 1.0  # between two requests that the server does not hold
_HELD_S = 2.0  # an answer that took this long was held: ask again at once
_MAX_WAIT_S = 15.0
_OURS_S = 1.0
"""Where this machine itself can't take a job: a full disk, no daemon. Looking again costs nothing."""
_QUICK_S, _QUICK_TRIES = 0.2, 25  # a server that starts again is met within a fifth of a second


@dataclass(slots=True)
class Registration:
    """One registration that is served. `settings` may change under way: a held request is not disturbed by that."""

    settings: RunnerSettings
    reason: str = "connecting"
    client: Coordinator | None = None
    task: asyncio.Task[None] | None = None
    probing: asyncio.Task[None] | None = None


def identity_of(settings: RunnerSettings) -> tuple[str, ...]:
    """What makes a registration another one for its server."""
    return (settings.url, settings.token.get_secret_value(), settings.executor, settings.tls_ca_file)


@dataclass(frozen=True, slots=True)
class Asking:
    """What all registrations of a machine share when they ask.

    `check` raises a JobError where no job could be run now. `begin` gets an offer and the slot for it; it says
    whether the slot is used. `say` hears why a registration does not work, "" where it does.
    """

    capacity: Capacity
    slots: Slots
    quota: Quota
    check: Callable[[RunnerSettings], Awaitable[None]]
    begin: Callable[[Offer, RunnerSettings, Coordinator, int], Awaitable[bool]]
    say: Callable[[Registration, str], None]

    async def run(self, registration: Registration, client: Coordinator) -> None:
        """Ask until cancelled."""
        last_update = ""
        failures = 0
        while True:
            usual = usual_limits(registration.settings)
            await self.capacity.until_welcome(usual, registration.settings.name)
            slot = await self.slots.take(identity_of(registration.settings), registration.settings.limit)
            wait_s = 0.0
            is_used = is_asking = False
            try:
                await self.quota.ask()
                is_asking = True
                await self.check(registration.settings)
                asked_at = time.monotonic()
                seen = "" if self.slots.is_contended else last_update
                offer = await client.request_job(seen)
                failures = 0
                self.say(registration, "")
                last_update = offer.last_update
                if offer.job is not None:
                    is_used = await self.begin(offer, registration.settings, client, slot)
                elif time.monotonic() - asked_at < _HELD_S and (seen or not last_update):
                    wait_s = _POLL_S
            except (ServerError, JobError) as error:
                failures += 1
                last_update = ""  # so the next request is not held: it tells at once that the server is back
                self.say(registration, str(error))
                wait_s = patience_s(failures, error)
            except Exception as error:
                log.exception("%s: an error of ours", registration.settings.label)
                failures += 1
                self.say(registration, f"{type(error).__name__}: {error}")
                wait_s = _MAX_WAIT_S
            finally:
                if is_asking:
                    self.quota.answered(is_job=is_used)
                if not is_used:
                    self.slots.give_back(slot)
            await asyncio.sleep(wait_s)


def patience_s(failures: int, error: Exception) -> float:
    """How long to wait after an error: seconds, never an hour; short at first, since servers mostly restart."""
    if isinstance(error, ForbiddenError):
        return _MAX_WAIT_S
    asked = error.retry_after_s if isinstance(error, UnavailableError) else None
    if failures <= _QUICK_TRIES and (asked or 0.0) <= 1.0:
        return _QUICK_S
    if isinstance(error, JobError):
        return _OURS_S
    wait_s: float = min(0.25 * 2.0 ** min(failures - _QUICK_TRIES, 10), _MAX_WAIT_S)
    return min(max(wait_s * random.uniform(0.8, 1.2), asked or 0.0), _MAX_WAIT_S)  # noqa: S311
