"""A figure: what was measured, its spread, and its yardstick from the same run (docs/reference/bench.md)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def figure(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    target: str,
    ok: bool,
    yardstick: str = "",
    yardstick_values: Sequence[float] = (),
) -> dict[str, Any]:
    """One row of `bench/run`. `ratio` is ours / yardstick, None without one; `target` is said in words."""
    median = statistics.median(values)
    reference = statistics.median(yardstick_values) if yardstick_values else None
    return {
        "name": name,
        "unit": unit,
        "median": round(median, 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
        "runs": len(values),
        "yardstick": yardstick,
        "yardstick_median": round(reference, 4) if reference is not None else None,
        "ratio": round(median / reference, 3) if reference else None,
        "target": target,
        "ok": ok,
    }
