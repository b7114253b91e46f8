"""`Range` and `Prefer: wait` of a request for a file. Sources: RFC 9110 §14.1.2, RFC 7240 §4.3."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_WAIT = re.compile(r"(?:^|[,;]\s*)wait=(\d{1,5})(?:$|\s*[,;])")


def asked_range(header: str | None) -> tuple[int, int | None] | None:
    """Offset (negative: from the end) and length (None: to the end); None for all of the file, as also for what is
    not served so (several ranges, other units)."""
    match = _RANGE.fullmatch(header.strip().replace(" ", "")) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return (-int(last), int(last)) if int(last) else None
    if not last:
        return int(first), None
    return (int(first), int(last) - int(first) + 1) if int(last) >= int(first) else None


def wait_of(header: str | None) -> float:
    """How many seconds the client would wait for an answer; 0 where it does not say."""
    match = _WAIT.search(header or "")
    return float(match[1]) if match else 0.0
