"""A job that was just given to us: what the journal gets of it before anything of it begins."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from nautilus_runner import clock
from nautilus_runner.client import Offer
from nautilus_runner.errors import DiskFull
from nautilus_runner.journal import Entry, Journal
from nautilus_runner.settings import RunnerSettings

_PATIENCE_S = 10.0  # well within the lease of a claim
_AGAIN_S = 0.2


async def journaled(journal: Journal, key: str, offer: Offer, settings: RunnerSettings) -> Entry:
    """The job's entry. A disk that is full just now may be given back by a job that is ending.

    Raises DiskFull: then the claim is not confirmed, and the server offers the job again.
    """
    first = _first(offer, settings)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return journal.open(key, first)
        except OSError as error:
            if time.monotonic() > deadline:
                raise DiskFull(f"the journal can't take the job {key}: {error.strerror}") from error
        await asyncio.sleep(_AGAIN_S)


def _first(offer: Offer, settings: RunnerSettings) -> Mapping[str, Any]:
    return {
        "claimed_at": time.time(),
        "clock": clock.mark(),
        "payload": offer.raw,
        "settings": _dumped(settings),
    }


def _dumped(settings: RunnerSettings) -> dict[str, Any]:
    """Settings with their secrets, for the journal alone."""
    dumped: dict[str, Any] = json.loads(json.dumps(settings.model_dump(), default=_bare))
    return dumped


def _bare(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
