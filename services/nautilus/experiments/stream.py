"""An experiment live, as server-sent events: `state`, `log`, `metric`, `end`. Docs: docs/reference/api.md.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (format, `Last-Event-ID`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from nautilus.core.identity import Identity
from nautilus.core.states import ExperimentState
from nautilus.db.engine import Database
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabError, Unavailable
from nautilus.events import Events
from nautilus.experiments.ports import Tracking
from nautilus.experiments.queries import find_experiment
from nautilus.experiments.reading import ExperimentReader, point_view
from nautilus.experiments.schemas import duration_s
from nautilus.experiments.service import ExperimentService

logger = logging.getLogger(__name__)

POLL_S = 0.4
HEARTBEAT_S = 15.0
LONGEST_S = 3600.0
"""A stream ends after that long, without `end`: the browser comes back with Last-Event-ID and is asked who
it is."""
POINTS_AT_A_TIME = 1000
_POSITION = re.compile(r"(\d{1,18}),([!-+\--~]{0,200})")


@dataclass
class Position:
    """How far a reader is: the log's next byte, and tracking's cursor. An event's id, for resuming."""

    offset: int = 0
    cursor: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Position:
        """From `Last-Event-ID`; the start where it is none of ours."""
        match = _POSITION.fullmatch(text or "")
        return cls(int(match[1]), match[2]) if match else cls()

    def __str__(self) -> str:
        return f"{self.offset},{self.cursor}"


class ExperimentStream:
    def __init__(
        self,
        service: ExperimentService,
        reader: ExperimentReader,
        database: Database,
        tracking: Tracking,
        events: Events,
    ) -> None:
        self._service = service
        self._reader = reader
        self._database = database
        self._tracking = tracking
        self._events = events

    async def open(
        self, caller: Identity, experiment_id: int, last_event_id: str | None
    ) -> AsyncIterator[bytes]:
        """The stream's text. Raises NotFound before it starts."""
        experiment = await self._service.visible(caller, experiment_id)
        return self._follow(caller, experiment, Position.parse(last_event_id))

    async def _follow(
        self, caller: Identity, experiment: Experiment, position: Position
    ) -> AsyncIterator[bytes]:
        started = spoken = time.monotonic()
        shown: dict[str, Any] | None = None
        yield b"retry: 1000\n\n"
        while time.monotonic() - started < LONGEST_S and not self._events.is_closed:
            changed = asyncio.ensure_future(self._events.wait(experiment.mlflow_run_id, POLL_S))
            try:
                experiment = await self._read(experiment.id)
                state = _state(experiment)
                if state != shown:
                    shown, spoken = state, time.monotonic()
                    yield event("state", state | {"duration_s": duration_s(experiment)}, position)
                is_drained = True
                async for text in self._news(caller, experiment, position):
                    is_drained, spoken = False, time.monotonic()
                    yield text
                if is_drained and ExperimentState(experiment.state).is_final:
                    yield event("end", state | {"duration_s": duration_s(experiment)}, position)
                    return
            except Unavailable as error:
                logger.info("experiment %s: its stream waits: %s", experiment.id, error)
            except GitLabError as error:
                logger.info("experiment %s: its stream ends: %s", experiment.id, error)
                return
            finally:
                await changed
            if time.monotonic() - spoken > HEARTBEAT_S:
                spoken = time.monotonic()
                yield b": still here\n\n"

    async def _news(
        self, caller: Identity, experiment: Experiment, position: Position
    ) -> AsyncIterator[bytes]:
        """Events for what came since `position`, which moves on."""
        async with self._database.read() as session:
            batch = await self._tracking.metrics_after(
                session, experiment.mlflow_run_id, position.cursor, limit=POINTS_AT_A_TIME
            )
        for index, point in enumerate(batch.points, 1):
            if index == len(batch.points):
                position.cursor = batch.cursor
            yield event("metric", {"key": point.key, **point_view(point).model_dump()}, position)
        if experiment.started_at is None and not ExperimentState(experiment.state).is_final:
            return
        part = await self._reader.log_of(caller, experiment, position.offset)
        data = part.data if part.is_complete else whole_characters(part.data)
        if data:
            start = position.offset
            position.offset += len(data)
            yield event("log", {"offset": start, "text": data.decode(errors="replace")}, position)

    async def _read(self, experiment_id: int) -> Experiment:
        async with self._database.read() as session:
            return await find_experiment(session, experiment_id)


def event(name: str, data: dict[str, Any], position: Position) -> bytes:
    """One event; JSON has no line ends, so `data` is one line."""
    return f"id: {position}\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def whole_characters(data: bytes) -> bytes:
    """`data` without the first bytes of a UTF-8 character whose rest has not come yet."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if length > back else data
        if byte < 0x80:
            break
    return data


def _state(experiment: Experiment) -> dict[str, Any]:
    return {
        "state": experiment.state,
        "reason": experiment.reason,
        "started_at": experiment.started_at.isoformat() if experiment.started_at else None,
        "finished_at": experiment.finished_at.isoformat() if experiment.finished_at else None,
        "job_url": experiment.job_url,
    }
