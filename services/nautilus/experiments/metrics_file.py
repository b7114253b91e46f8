"""Reads `metrics.jsonl`, for scripts that do not use MLflow: a line is `{"key", "value", "step"?,
"timestamp"?}`."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any

from nautilus.experiments.ports import MetricPoint

FILE_LIMIT_BYTES = 16 * 1024 * 1024
POINTS_LIMIT = 200_000
KEY = re.compile(r"[\w\-. :/]{1,250}")
"""What MLflow takes as a metric's name. Source: mlflow/utils/validation.py."""
_INT64 = 2**63


def read_metrics(content: bytes, written_at: datetime) -> list[MetricPoint]:
    """The points of every line that can be read; the others are left out, since a run must not fail by them.

    `timestamp` is Unix time in seconds or milliseconds; `written_at` stands in where it is missing. A step
    that is missing counts up per key.
    """
    points: list[MetricPoint] = []
    next_step: dict[str, int] = {}
    default_ms = int(written_at.timestamp() * 1000)
    for line in content.splitlines():
        point = _point(line, next_step, default_ms)
        if point is not None:
            points.append(point)
            next_step[point.key] = point.step + 1
        if len(points) == POINTS_LIMIT:
            break
    return points


def _point(line: bytes, next_step: dict[str, int], default_ms: int) -> MetricPoint | None:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    key, value = data.get("key"), _number(data.get("value"))
    if not isinstance(key, str) or not KEY.fullmatch(key) or value is None:
        return None
    step = data.get("step", next_step.get(key, 0))
    if isinstance(step, bool) or not isinstance(step, int) or not -_INT64 <= step < _INT64 - 1:
        return None
    return MetricPoint(key, value, _milliseconds(data.get("timestamp"), default_ms), step)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _milliseconds(value: Any, default_ms: int) -> int:
    seconds_or_ms = _number(value)
    if seconds_or_ms is None or not math.isfinite(seconds_or_ms) or not 0 < seconds_or_ms < 1e14:
        return default_ms
    return int(seconds_or_ms if seconds_or_ms > 1e11 else seconds_or_ms * 1000)
