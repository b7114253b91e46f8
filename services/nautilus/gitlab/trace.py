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

PART_LIMIT_BYTES = 1024 * 1024
"""At most this much is read at a time; the caller comes again for the rest."""
_TEMPLATE = "/projects/{project}/jobs/{job}/trace"
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


def read_trace(
    transport: Transport, credential: Credential, project: int, job_id: int, offset: int
) -> TracePart:
    """Blocking. The log from byte `offset` on, at most PART_LIMIT_BYTES of it. Raises as the port says."""
    headers = {"Range": f"bytes={offset}-{offset + PART_LIMIT_BYTES - 1}", "Accept-Encoding": "identity"}
    if offset == 0:
        del headers["Range"]
    try:
        response = transport.response(
            credential, "GET", _TEMPLATE, headers=headers, streamed=True, project=project, job=job_id
        )
    except GitLabRefused as error:
        if isinstance(error.__cause__, GitlabHttpError) and error.__cause__.response_code == 416:
            return TracePart(offset, b"", offset)
        raise
    with translated("GET", _TEMPLATE), response:
        if response.status_code == 206:
            return _ranged(response, offset)
        return _skipped(response, offset)


def _ranged(response: requests.Response, offset: int) -> TracePart:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start = int(match[1]) if match and match[1] else offset
    data = _up_to(response, PART_LIMIT_BYTES + max(0, offset - start))[max(0, offset - start) :]
    total = int(match[3]) if match and match[3] != "*" else 0
    return TracePart(offset, data, max(total, offset + len(data)))


def _skipped(response: requests.Response, offset: int) -> TracePart:
    """The server sent all of it: only the part behind `offset` is kept."""
    to_skip, kept = offset, bytearray()
    for piece in response.iter_content(65536):
        kept += piece[to_skip:]
        to_skip = max(0, to_skip - len(piece))
        if len(kept) >= PART_LIMIT_BYTES:
            break
    data = bytes(kept[:PART_LIMIT_BYTES])
    length = int(response.headers.get("Content-Length") or 0)
    return TracePart(offset, data, max(length, offset - to_skip + len(data)))


def _up_to(response: requests.Response, limit: int) -> bytes:
    body = bytearray()
    for piece in response.iter_content(65536):
        body += piece
        if len(body) >= limit:
            break
    return bytes(body[:limit])
