"""Durations as users write them in variables: `90`, `90s`, `5m`, `1h30m`."""

from __future__ import annotations

import re

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float | None:
    """None for nothing, zero, or what is no duration."""
    compact = text.replace(" ", "")
    if compact.isdigit():
        return float(compact) or None
    parts = re.findall(r"(\d+)([smh])", compact)
    if not parts or "".join(n + u for n, u in parts) != compact:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in parts) or None
