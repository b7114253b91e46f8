"""PATCH /api/v4/jobs/:id/trace, before all routing: the busiest request of a forge with running jobs.

It does what the other routes do by dependencies, without them: a PATCH of a job that is known costs a look-up,
one `fstat` and one `pwrite`.
"""

from __future__ import annotations

import logging
import re

import orjson
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.errors import BadRequest, ForgeError, PayloadTooLarge, Unavailable
from nautilus_forge.forge import Forge
from nautilus_forge.jobs.authorize import live_job
from nautilus_forge.jobs.errors import JobForbidden
from nautilus_forge.params import MAX_ID
from nautilus_forge.traces import service
from nautilus_forge.traces.store import parse_start

log = logging.getLogger(__name__)

_PATH = re.compile(r"/api/v4/jobs/([^/]+)/trace")
_TOKEN = re.compile(rb"(?:^|&)token=([A-Za-z0-9_.\-]+)(?:&|$)")
_MAX_PIECE = 16 << 20

Headers = list[tuple[bytes, bytes]]


class TraceEndpoint:
    """ASGI middleware: answers the PATCH, hands everything else on."""

    def __init__(self, app: ASGIApp, forge: Forge) -> None:
        self._app = app
        self._forge = forge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "PATCH" and (match := _PATH.fullmatch(scope["path"])) is not None:
            status, headers, body = await self._answer(match[1], scope, receive)
            headers.append((b"content-length", b"%d" % len(body)))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)

    async def _answer(self, job: str, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        try:
            return await _append(self._forge.ci, job, scope, receive)
        except ForgeError as error:
            return _refusal(error)
        except (OperationalError, InterfaceError) as error:
            log.error("PATCH of the log of job %s: the database does not answer: %s", job, error)
            return _refusal(Unavailable())
        except Exception:
            log.exception("PATCH of the log of job %s failed", job)
            return _refusal(ForgeError())


def _refusal(error: ForgeError) -> tuple[int, Headers, bytes]:
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return error.status, [*headers, (b"content-type", b"application/json")], orjson.dumps(error.body)


async def _append(ci: CiHalf, job_id: str, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
    """202 with the length of the log in `Range`, 416 with the length from which to go on.

    Raises `BadRequest`, `JobForbidden`, `PayloadTooLarge`, `InsufficientStorage`.
    """
    given = dict(scope["headers"])
    job = await live_job(ci, _id(job_id), _token(scope, given))
    content_range = given.get(b"content-range")
    if content_range is None:
        raise BadRequest(body={"error": "400 Missing header Content-Range"})
    start = parse_start(content_range.decode("latin-1"))
    appended = await service.append(ci, job, start, await _body(receive))
    headers = [(b"range", b"0-%d" % appended.size), (b"job-status", job.status.value.encode())]
    if not appended.is_accepted:
        headers.append((b"content-type", b"application/json"))
        return 416, headers, b'{"error":"416 Range Not Satisfiable"}'
    interval = service.interval_header(service.update_interval_s(ci, job))
    headers.append((b"x-gitlab-trace-update-interval", interval.encode()))
    return 202, headers, b""


def _id(given: str) -> int:
    """Raises `BadRequest` for what is no number, `JobForbidden` (never 404) for one that no job can have."""
    if not given.isascii() or not given.isdigit():
        raise BadRequest(body={"error": "id is invalid"})
    if len(given) > 19 or int(given) > MAX_ID:
        raise JobForbidden
    return int(given)


def _token(scope: Scope, given: dict[bytes, bytes]) -> str:
    """Parameter `token`, else header `JOB-TOKEN`; empty where none is given."""
    match = _TOKEN.search(scope["query_string"])
    return (match[1] if match is not None else given.get(b"job-token", b"")).decode("latin-1")


async def _body(receive: Receive) -> bytes:
    message = await receive()
    parts = [_part(message)]
    size = len(parts[0])
    while message.get("more_body", False):
        message = await receive()
        parts.append(_part(message))
        size += len(parts[-1])
        if size > _MAX_PIECE:
            raise PayloadTooLarge
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _part(message: Message) -> bytes:
    """Raises `BadRequest` where the client has gone in the middle of its body: half a piece is none."""
    if message["type"] == "http.disconnect":
        raise BadRequest("the body is not complete")
    part: bytes = message.get("body", b"")
    return part
