"""Where those who ask for files of running jobs meet the runners of these jobs. In memory, of this one process.

A runner holds one request for each job; `questions` answers it when somebody `ask`s, and `deliver` hands the runner's
answer on. Management is one process, so nothing needs to be shared; after a restart the runners come again within a
second or two, and who asks meanwhile waits for them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nautilus.errors import InvalidRequest, NotFound, RunnerUnreachable, Unavailable
from nautilus.events import Events
from nautilus.live.pipe import Pipe, PipeBroken

LONGEST_HOLD_S = 50.0
COMES_WITHIN_S = 5.0
"""How long to wait for a runner that holds no request now: it may just come back."""
AWAY_S = 3.0
"""A runner that holds no request for so long answers nothing any more."""
ANSWERS_WITHIN_S = 30.0
WRITES_WITHIN_S = 600.0
MOST_QUESTIONS = 12
"""For one job at a time."""
HEAD_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass
class Delivery:
    """What a runner answered: `head` is its JSON, `pipe` what follows (a read's bytes)."""

    head: Mapping[str, Any]
    pipe: Pipe

    @property
    def length(self) -> int:
        return int(self.head.get("length", 0))


@dataclass
class Question:
    fields: Mapping[str, Any]
    answer: asyncio.Future[Delivery]
    upload: AsyncGenerator[bytes, None] | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    is_taken: bool = False
    is_fetched: bool = False


@dataclass
class _Station:
    """One job. `turn` counts the runner's requests: only the latest is answered."""

    job_id: int
    questions: dict[str, Question] = field(default_factory=dict)
    present: int = 0
    turn: int = 0

    @property
    def topic(self) -> str:
        return f"live {self.job_id}"

    @property
    def is_idle(self) -> bool:
        return not self.present and not self.questions


class Rendezvous:
    """One per process; belongs to one event loop. `events` wakes who waits, and ends all waiting with the service."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._stations: dict[int, _Station] = {}

    # ---- the runner's side

    async def questions(self, job_id: int, wait_s: float, gone: Awaitable[object]) -> list[Mapping[str, Any]]:
        """What is asked about this job, as soon as something is; nothing after `wait_s`, or when `gone` is done."""
        station = self._station(job_id)
        station.present += 1
        station.turn = turn = station.turn + 1
        self._events.publish(station.topic)  # an older request of the same runner ends
        leaving = asyncio.ensure_future(gone)
        until = asyncio.get_running_loop().time() + min(wait_s, LONGEST_HOLD_S)
        try:
            while not (found := [q for q in station.questions.values() if not q.is_taken]):
                left_s = until - asyncio.get_running_loop().time()
                if left_s <= 0 or leaving.done() or station.turn != turn or self._events.is_closed:
                    return []
                waking = asyncio.ensure_future(self._events.wait(station.topic, left_s))
                await asyncio.wait({waking, leaving}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
            if leaving.done() or station.turn != turn:
                return []
            for question in found:
                question.is_taken = True
            return [{"id": question.id, **question.fields} for question in found]
        finally:
            leaving.cancel()
            station.present -= 1
            asyncio.get_running_loop().call_later(AWAY_S, self._check_away, station, station.turn)

    async def deliver(self, job_id: int, question_id: str, body: AsyncIterator[bytes]) -> None:
        """Hand an answer on as it comes. Raises NotFound where nobody waits for it (any longer), InvalidRequest."""
        question = self._question(job_id, question_id)
        head, rest = await _head(body)
        if question.answer.done():
            raise _nobody_waits()
        pipe = Pipe()
        delivery = Delivery(head, pipe)
        question.answer.set_result(delivery)
        left, is_whole = delivery.length, False
        try:
            if rest:
                left -= len(rest)
                await pipe.put(rest)
            async for part in body:
                left -= len(part)
                if left < 0:
                    raise InvalidRequest("more bytes came than were announced")
                if part:
                    await pipe.put(part)
            is_whole = left == 0
        except PipeBroken:
            raise _nobody_waits() from None
        finally:
            pipe.end(is_whole=is_whole)

    def upload(self, job_id: int, question_id: str) -> AsyncGenerator[bytes, None]:
        """The bytes that are to be written, once. Raises NotFound."""
        question = self._question(job_id, question_id)
        if question.upload is None or question.is_fetched:
            raise _nobody_waits()
        question.is_fetched = True
        return question.upload

    # ---- the other side

    async def ask(
        self,
        job_id: int,
        fields: Mapping[str, Any],
        *,
        wait_s: float = 0.0,
        upload: AsyncGenerator[bytes, None] | None = None,
    ) -> Delivery:
        """The runner's answer. Raises RunnerUnreachable where no runner comes for it, or it goes away before;
        Unavailable where the job is asked too much at once."""
        station = self._station(job_id)
        if len(station.questions) >= MOST_QUESTIONS:
            raise Unavailable("too many look into this job's files at once", retry_after_s=2)
        question = Question(fields, asyncio.get_running_loop().create_future(), upload)
        station.questions[question.id] = question
        self._events.publish(station.topic)
        limit_s = WRITES_WITHIN_S if upload is not None else ANSWERS_WITHIN_S + wait_s
        try:
            await asyncio.wait({question.answer}, timeout=COMES_WITHIN_S)
            if not question.is_taken and not question.answer.done():
                raise _unreachable()
            async with asyncio.timeout(limit_s):
                return await question.answer
        except TimeoutError:
            raise RunnerUnreachable("the job's runner does not answer", retry_after_s=5) from None
        finally:
            station.questions.pop(question.id, None)
            if question.answer.cancelled() or not question.answer.done():
                question.answer.cancel()
            self._forget(station)

    def _check_away(self, station: _Station, turn: int) -> None:
        """A runner that has not come again since its request `turn` answers none of what it took."""
        if not station.present and station.turn == turn:
            for question in station.questions.values():
                if question.is_taken and not question.answer.done() and question.upload is None:
                    question.answer.set_exception(_unreachable())
        self._forget(station)

    def _station(self, job_id: int) -> _Station:
        return self._stations.setdefault(job_id, _Station(job_id))

    def _forget(self, station: _Station) -> None:
        if station.is_idle and self._stations.get(station.job_id) is station:
            del self._stations[station.job_id]

    def _question(self, job_id: int, question_id: str) -> Question:
        station = self._stations.get(job_id)
        question = station.questions.get(question_id) if station else None
        if question is None:
            raise _nobody_waits()
        return question


async def _head(body: AsyncIterator[bytes]) -> tuple[Mapping[str, Any], bytes]:
    """The first line of an answer, and what came after it. Raises InvalidRequest."""
    seen = b""
    async for part in body:
        seen += part
        line, end, rest = seen.partition(b"\n")
        if len(line) > HEAD_LIMIT_BYTES:
            raise InvalidRequest("the answer's first line is too long")
        if end:
            try:
                head = json.loads(line)
            except ValueError:
                head = None
            if not isinstance(head, dict) or not _is_size(head.get("length", 0)):
                raise InvalidRequest("the answer's first line is no JSON object")
            return head, rest
    raise InvalidRequest("the answer has no first line")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _unreachable() -> RunnerUnreachable:
    return RunnerUnreachable(
        "the job's runner does not answer for its files: it just ends or restarts, can't reach Nautilus"
        " (its setting nautilus_url), or is none of Nautilus",
        retry_after_s=5,
    )


def _nobody_waits() -> NotFound:
    return NotFound("nobody waits for this any more")
