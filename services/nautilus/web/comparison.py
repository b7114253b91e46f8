"""Experiments side by side: every parameter and metric as a row, with what differs and what is best. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nautilus.web.table import Row, best_rows, is_same

MOST = 8
_ABSENT = object()


@dataclass(frozen=True)
class Line:
    """One parameter or metric; `values` in the order of the experiments, None where one has no such value.

    `best` are positions in `values`.
    """

    key: str
    values: list[Any]
    differs: bool
    best: frozenset[int] = frozenset()


def params(rows: Sequence[Row]) -> list[Line]:
    """Those that differ first, each part in the order in which its keys are met."""
    keys = dict.fromkeys(key for row in rows for key in row.params)
    lines = []
    for key in keys:
        values = [row.params.get(key, _ABSENT) for row in rows]
        differs = any(
            (value is _ABSENT) != (values[0] is _ABSENT)
            or (value is not _ABSENT and values[0] is not _ABSENT and not is_same(value, values[0]))
            for value in values[1:]
        )
        lines.append(Line(key, [None if value is _ABSENT else value for value in values], differs))
    return sorted(lines, key=lambda line: not line.differs)


def metrics(rows: Sequence[Row]) -> list[Line]:
    """By name; the best of each is marked where the name says what is better."""
    lines = []
    for key in sorted({key for row in rows for key in row.metrics}):
        values = [row.metrics.get(key) for row in rows]
        best = best_rows(rows, key)
        positions = frozenset(i for i, row in enumerate(rows) if row.id in best)
        lines.append(Line(key, values, len(set(values)) > 1, positions))
    return lines
