"""POST /jobs/request: a runner asks for a job, and may be kept waiting for it.

Source: docs of the runner protocol; GitLab lib/api/ci/runner.rb, doc/ci/runners/long_polling.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.asks import Ask
from nautilus_forge.jobs.board import Waiter
from nautilus_forge.jobs.claim import claim_job, features_of
from nautilus_forge.runners.identity import (
    RunnerIdentity,
    address_of,
    find_runner,
    note_runner,
    runner_token,
)
from nautilus_forge.tokens import secret

log = logging.getLogger(__name__)


class Client:
    """Whether the client of a held request is still there. Reads the connection in a task of its own."""

    def __init__(self, request: Request) -> None:
        self._task = asyncio.create_task(self._watch(request))

    @staticmethod
    async def _watch(request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    @property
    def is_gone(self) -> bool:
        return self._task.done()

    def on_gone(self, callback: Callable[[], object]) -> None:
        self._task.add_done_callback(lambda _: callback())

    def release(self) -> None:
        self._task.cancel()


async def request_job(ci: CiHalf, request: Request, params: Mapping[str, Any]) -> Response:
    """201 with a job, or 204 with `X-GitLab-Last-Update`.

    A request that brings a `last_update` is held until there is a job for the runner, at most `hold_s`; one
    that brings none is answered at once, as GitLab does. Raises `UnknownRunner`, `InvalidParams`.
    """
    try:
        runner, manager_id = await _identify(ci, request, params)
        asker = _Asker(runner, manager_id, params, Client(request))
    except (OperationalError, InterfaceError, PoolTimeout):
        return await _database_is_away(ci)
    try:
        return await _find_or_wait(ci, asker)
    except (OperationalError, InterfaceError):
        return await _database_is_away(ci)
    finally:
        asker.client.release()


async def _database_is_away(ci: CiHalf) -> Response:
    """ "No job" is true enough, and no error: after three of those a runner turns away for an hour."""
    log.warning("a runner asks for a job and the database does not answer")
    with suppress(TimeoutError):
        await asyncio.wait_for(ci.forge.stopping.wait(), 1.0)
    return _nothing(ci)


@dataclass(frozen=True)
class _Asker:
    runner: RunnerIdentity
    manager_id: int | None
    params: Mapping[str, Any]
    client: Client


async def _identify(
    ci: CiHalf, request: Request, params: Mapping[str, Any]
) -> tuple[RunnerIdentity, int | None]:
    """The runner, from memory where it asked just now, and the id of its manager."""
    token = runner_token(request, params)
    digest = secret.digest(token)
    ip = address_of(request)
    system_id = str(params.get("system_id") or "")
    told = hash(repr((params.get("info"), ip)))
    runner = ci.runners.get(digest)
    manager_id = ci.runners.manager(runner.id, system_id, told) if runner is not None else None
    if runner is None or runner.is_expired or (system_id and manager_id is None):
        async with ci.forge.database.unit_of_work() as db:
            runner = await find_runner(db, token)
            manager_id = await note_runner(db, runner.id, params, ip)
        ci.runners.put(digest, runner)
        if manager_id is not None:
            ci.runners.put_manager(runner.id, system_id, told, manager_id)
    ci.presence.saw(runner.id, manager_id, ip)
    return runner, manager_id


async def _find_or_wait(ci: CiHalf, asker: _Asker) -> Response:
    told = asker.params.get("last_update")
    end = time.monotonic() + (ci.limits.hold_s if told else 0.0)
    is_looked_for = asker.runner.is_active and told != ci.board.last_update
    while True:
        waiter = Waiter(asker.runner.wants)
        asker.client.on_gone(waiter.wake)
        ci.board.join(waiter)
        try:
            payload = await _claim(ci, asker) if is_looked_for else None
            if payload is not None:
                if waiter.is_offered:
                    ci.look.set()
                return Response(orjson.dumps(payload), 201, media_type="application/json")
            left_s = end - time.monotonic()
            if left_s > 0 and not ci.forge.stopping.is_set():
                waiter.is_idle = True
                await asyncio.wait({waiter.woken}, timeout=left_s)
        finally:
            ci.board.leave(waiter)
        if not waiter.is_offered:
            return _nothing(ci)
        if asker.client.is_gone:
            ci.look.set()
            return _nothing(ci)
        is_looked_for = True


async def _claim(ci: CiHalf, asker: _Asker) -> dict[str, Any] | None:
    """A job, None where there is none or the client has gone: then somebody else gets it at once."""
    if not asker.client.is_gone:
        ask = Ask(asker.runner, asker.manager_id, features_of(asker.params), lambda: asker.client.is_gone)
        claimed = await claim_job(ci, ask)
        if claimed is not None or not asker.client.is_gone:
            return claimed
    ci.look.set()
    return None


def _nothing(ci: CiHalf) -> Response:
    return Response(
        status_code=204,
        headers={"X-GitLab-Last-Update": ci.board.last_update, "Gitlab-Ci-Builds-Polling": "yes"},
    )
