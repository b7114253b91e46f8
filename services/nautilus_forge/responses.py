"""JSON as GitLab writes it, and its way of writing times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson
from starlette.responses import Response


class Json(Response):
    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content, status_code=status, headers=dict(headers or {}))

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def no_content() -> Response:
    """204, without a body and without a content type."""
    return Response(status_code=204)


def timestamp(value: datetime | None) -> str | None:
    """`2025-11-21T13:47:00.123Z`: UTC, milliseconds."""
    if value is None:
        return None
    utc = value.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def day(value: date | None) -> str | None:
    """`2025-11-21`."""
    return None if value is None else value.isoformat()
