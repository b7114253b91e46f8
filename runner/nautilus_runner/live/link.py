"""The way in from outside: one held request at Nautilus for each job that is a Nautilus run.

The runner speaks outward only, so Nautilus answers that request when somebody wants to look into the job's folder; what
was asked for goes back as the body of a request of its own. The job says whose run it is: its variables name Nautilus,
its token is the key. A server that knows nothing of this is asked once.

    POST /api/v1/jobs/{job}/live                    {"wait_s"} → 204, or 200 {"requests": [Request, …]}
    POST /api/v1/jobs/{job}/live/{request}          one line of JSON (desk.Answer.head), then the bytes of a read
    GET  /api/v1/jobs/{job}/live/{request}/content  the bytes of a write
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError

from nautilus_runner.errors import ConfigurationError, LiveRefused, ServerError, UnavailableError
from nautilus_runner.live.desk import Answer, Desk, Request
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.transport import Transport
from nautilus_runner.usage.tracking import is_trusted
from nautilus_runner.variables import Variables

if TYPE_CHECKING:
    from nautilus_runner.work import Work

log = logging.getLogger(__name__)

_FIRST_AFTER_S = 0.5  # a job that is over by then costs nothing
_HOLD_S = 45.0
_HELD_S = 2.0
_MAX_WAIT_S = 10.0
_MOST_AT_ONCE = 16
_FOR_GOOD = (400, 401, 403, 404, 405, 410, 422)
"""Not a Nautilus run, no Nautilus, or a job that is over: nobody will ever ask."""


def nautilus_url(variables: Variables, settings: RunnerSettings) -> str:
    """Where Nautilus is for this job, as this machine reaches it; "" where it is no run of a Nautilus that we trust."""
    named = (variables.get("MLFLOW_TRACKING_URI") or variables.get("NAUTILUS_URL")).rstrip("/")
    is_run = bool(named and variables.get("MLFLOW_RUN_ID"))
    return (settings.nautilus_url or named) if is_run and is_trusted(named, settings) else ""


@asynccontextmanager
async def reachable(work: Work, desk: Desk) -> AsyncGenerator[None, None]:
    """While this lasts, Nautilus may ask for the job's files, where the job is a run of Nautilus."""
    settings, job = work.settings, work.job
    url = nautilus_url(work.variables, settings) if settings.live_files else ""
    if not url:
        if settings.live_files and work.variables.get("MLFLOW_RUN_ID"):
            log.info(
                "live files: not of job %s: its MLFLOW_TRACKING_URI is not ours (set nautilus_url)", job.id
            )
        yield
        return
    task = asyncio.create_task(Link(url, settings.tls_ca_file, job.id, job.token, desk).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Link:
    """One job's; `run` lasts until it is cancelled, or Nautilus says that nobody will ask."""

    def __init__(self, url: str, ca_file: str, job_id: int, token: str, desk: Desk) -> None:
        self._url = url
        self._ca_file = ca_file
        self._path = f"/api/v1/jobs/{job_id}/live"
        self._headers = {"JOB-TOKEN": token}
        self._desk = desk
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await asyncio.sleep(_FIRST_AFTER_S)
        try:
            transport = Transport(self._url, self._ca_file)
        except ConfigurationError as error:
            log.warning("live files: %s", error)
            return
        try:
            await self._hold(transport)
        finally:
            for task in self._answering:
                task.cancel()
            await asyncio.gather(*self._answering, return_exceptions=True)
            await asyncio.shield(transport.close())

    async def _hold(self, transport: Transport) -> None:
        """Ask again and again; returns when asking is of no use."""
        failures = 0
        while True:
            asked_at = time.monotonic()
            try:
                requests = await self._ask(transport)
                failures = 0
            except UnavailableError as error:
                failures += 1
                if failures == 3:
                    log.warning("live files: %s", error)
                patience_s = min(0.2 * 2.0 ** min(failures, 8), _MAX_WAIT_S)
                await asyncio.sleep(patience_s * random.uniform(0.8, 1.2))  # noqa: S311
                continue
            except ServerError as error:
                log.info("live files: not for this job: %s", error)
                return
            for request in requests:
                self._begin(transport, request)
            if not requests and time.monotonic() - asked_at < _HELD_S:
                await asyncio.sleep(_HELD_S)

    async def _ask(self, transport: Transport) -> list[Request]:
        """Raises UnavailableError for now, ServerError for good."""
        answer = await transport.request_json(
            "POST", self._path, {"wait_s": _HOLD_S}, headers=self._headers, read_timeout_s=_HOLD_S + 20
        )
        if answer.status == 204:
            return []
        if answer.status == 200:
            try:
                return [Request.model_validate(one) for one in answer.json()["requests"]]
            except (ValidationError, KeyError, TypeError) as error:
                raise ServerError(f"{self._url} asks what can't be understood") from error
        text = f"{self._url} answered {answer.status} {answer.message}"
        if answer.status in _FOR_GOOD:
            raise ServerError(text, answer.status)
        raise UnavailableError(text, answer.status)

    def _begin(self, transport: Transport, request: Request) -> None:
        if len(self._answering) >= _MOST_AT_ONCE:
            log.warning("live files: more than %s questions at once; one is left out", _MOST_AT_ONCE)
            return
        task = asyncio.create_task(self._answer(transport, request))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, transport: Transport, request: Request) -> None:
        path = f"{self._path}/{request.id}"
        answer = await self._desk.answer(request, lambda: self._content(transport, f"{path}/content"))
        async with aclosing(_body(answer)) as body:
            try:
                await transport.request(
                    "POST",
                    path,
                    headers={**self._headers, "Content-Type": "application/octet-stream"},
                    content=body,
                    read_timeout_s=60.0,
                )
            except (
                UnavailableError,
                OSError,
            ) as error:  # who asked has gone away, or the file can't be read on
                log.debug("live files: %s", error)

    async def _content(self, transport: Transport, path: str) -> AsyncGenerator[bytes, None]:
        async with transport.stream("GET", path, headers=self._headers, read_timeout_s=60.0) as (
            answer,
            body,
        ):
            if answer.status != 200:
                raise LiveRefused("broken", f"what to write can't be fetched: {answer.status}")
            async for part in body:
                yield part


async def _body(answer: Answer) -> AsyncGenerator[bytes, None]:
    try:
        yield json.dumps(answer.head, separators=(",", ":")).encode() + b"\n"
        if answer.content is not None:
            async for part in answer.content:
                yield part
    finally:
        if answer.content is not None:
            await answer.content.aclose()
