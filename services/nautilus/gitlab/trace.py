"""Reads a job's log in parts, by HTTP ranges where the server honours them, else by skipping.

Source: https://docs.gitlab.com/api/jobs/#get-a-log-file; RFC 9110, 14 (ranges).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gitlab.exceptions import GitlabHttpError

from nautilus.core.identity import Credential
from nautilus.errors import GitLabRefused
from nautilus.gitlab.port import TracePart
from nautilus.gitlab.transport import Transport, translated

if TYPE_CHECKING:
    import requests

_TEMPLATE = "/projects/{project}/jobs/{job}/trace"
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


def read_trace(
    transport: Transport,
    credential: Credential,
    project: int,
    job_id: int,
    offset: int,
    limit_bytes: int,
) -> TracePart:
    """Blocking. The log from byte `offset` on, at most `limit_bytes` of it. Raises as the port says."""
    headers = {"Range": f"bytes={offset}-{offset + limit_bytes - 1}", "Accept-Encoding": "identity"}
    try:
        response = transport.response(
            credential, "GET", _TEMPLATE, headers=headers, streamed=True, project=project, job=job_id
        )
    except GitLabRefused as error:
        cause = error.__cause__
        if isinstance(cause, GitlabHttpError) and cause.response_code == 416:
            return TracePart(offset, b"", offset)
        raise
    with translated("GET", _TEMPLATE), response:
        if response.status_code == 206:
            return _ranged(response, offset, limit_bytes)
        return _skipped(response, offset, limit_bytes)


def _ranged(response: requests.Response, offset: int, limit_bytes: int) -> TracePart:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start = int(match[1]) if match and match[1] else offset
    surplus = max(0, offset - start)
    data = _up_to(response, surplus + limit_bytes)[surplus:]
    total = int(match[3]) if match and match[3] != "*" else 0
    return TracePart(offset, data, max(total, offset + len(data)))


def _skipped(response: requests.Response, offset: int, limit_bytes: int) -> TracePart:
    """The server sends all of it: the wanted part is kept, and the rest is counted where no length was
    given."""
    length = int(response.headers.get("Content-Length") or 0)
    position, kept = 0, bytearray()
    for piece in response.iter_content(65536):
        wanted = piece[max(0, offset - position) :]
        kept += wanted[: limit_bytes - len(kept)]
        position += len(piece)
        if length and len(kept) >= limit_bytes:
            break
    return TracePart(offset, bytes(kept), max(length, position))


def _up_to(response: requests.Response, limit: int) -> bytes:
    body = bytearray()
    for piece in response.iter_content(65536):
        body += piece
        if len(body) >= limit:
            break
    return bytes(body[:limit])
