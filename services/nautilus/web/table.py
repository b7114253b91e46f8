"""The experiments table: which columns it has, what is best in them, and how sweeps group. Pure."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

MOST_PARAMS = 8
MOST_METRICS = 6

Direction = Literal["max", "min"]

_WORDS = re.compile(r"[^a-z0-9]+")
_SMALLER = frozenset(
    [
        "loss",
        "error",
        "errors",
        "err",
        "mse",
        "rmse",
        "mae",
        "mape",
        "nll",
        "logloss",
        "perplexity",
        "ppl",
        "wer",
        "cer",
        "fid",
        "latency",
        "regret",
    ]
)
_GREATER = frozenset(
    [
        "accuracy",
        "acc",
        "f1",
        "auc",
        "auroc",
        "auprc",
        "precision",
        "recall",
        "score",
        "r2",
        "bleu",
        "rouge",
        "iou",
        "map",
        "dice",
        "reward",
        "return",
        "ndcg",
        "mcc",
    ]
)


class Row(Protocol):
    """What the table needs of an experiment."""

    @property
    def id(self) -> int: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def metrics(self) -> Mapping[str, float | None]: ...
    @property
    def sweep_id(self) -> int | None: ...
    @property
    def project_id(self) -> int: ...


@dataclass(frozen=True)
class Column:
    """One parameter or metric. `best` holds the ids of the rows with the best value, per project."""

    kind: Literal["param", "metric"]
    key: str
    is_numeric: bool
    best: frozenset[int] = frozenset()

    @property
    def name(self) -> str:
        """As in addresses: `params.lr`, `metrics.accuracy`."""
        return f"{self.kind}s.{self.key}"


@dataclass(frozen=True)
class Group:
    """Rows that follow each other in the table; of one sweep where `sweep_id` is set."""

    sweep_id: int | None
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """`constants` are parameters that are alike in every row; `hidden` names columns that are left out."""

    groups: list[Group]
    params: list[Column]
    metrics: list[Column]
    constants: dict[str, Any]
    hidden: list[str]

    @property
    def columns(self) -> list[Column]:
        return self.metrics + self.params


def build(rows: Sequence[Row], chosen: Sequence[str] = (), *, is_grouped: bool = True) -> Table:
    """`chosen` names columns (`params.lr`); without any, those that tell the rows apart are taken."""
    params, metrics = _keys([r.params for r in rows]), _metric_keys([r.metrics for r in rows])
    constants = {k: rows[0].params[k] for k in params if len(rows) > 1 and _is_constant(rows, k)}
    if chosen:
        shown_params = [k for k in params if f"params.{k}" in chosen]
        shown_metrics = [k for k in metrics if f"metrics.{k}" in chosen]
        constants = {}
    else:
        shown_params = [k for k in params if k not in constants][:MOST_PARAMS]
        shown_metrics = metrics[:MOST_METRICS]
    hidden = [f"params.{k}" for k in params if k not in shown_params and k not in constants]
    hidden += [f"metrics.{k}" for k in metrics if k not in shown_metrics]
    return Table(
        groups=_groups(rows) if is_grouped else [Group(None, rows)] if rows else [],
        params=[Column("param", k, _is_numeric(rows, k)) for k in shown_params],
        metrics=[Column("metric", k, True, best_rows(rows, k)) for k in shown_metrics],
        constants=constants,
        hidden=hidden,
    )


def direction(metric: str) -> Direction | None:
    """Whether more or less is better, by the metric's name; None where the name does not say."""
    words = set(_WORDS.split(metric.lower()))
    if words & _SMALLER:
        return "min"
    return "max" if words & _GREATER else None


def best_rows(rows: Sequence[Row], metric: str) -> frozenset[int]:
    """Ids of the rows with the best value within their project; empty where nothing is to compare."""
    toward = direction(metric)
    if toward is None:
        return frozenset()
    best: set[int] = set()
    for project in {r.project_id for r in rows}:
        found = {r.id: r.metrics.get(metric) for r in rows if r.project_id == project}
        values = {one: value for one, value in found.items() if value is not None and math.isfinite(value)}
        if len(values) > 1 and len(set(values.values())) > 1:
            top = max(values.values()) if toward == "max" else min(values.values())
            best |= {one for one, value in values.items() if value == top}
    return frozenset(best)


def is_same(a: Any, b: Any) -> bool:
    """Whether two parameters are the same: 1 and 1.0 are, 1 and "1" are not, True and 1 are not."""
    if isinstance(a, bool) or isinstance(b, bool):
        return type(a) is type(b) and a == b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _keys(maps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that most rows have first, else in the order in which they are met."""
    counts = Counter(key for one in maps for key in one)
    return sorted(counts, key=lambda key: -counts[key])


def _metric_keys(maps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that most rows have first; what the machine did (`system/…`) last."""
    counts = Counter(key for one in maps for key in one)
    return sorted(
        counts, key=lambda key: (key.startswith("system/"), direction(key) is None, -counts[key], key)
    )


def _is_constant(rows: Sequence[Row], key: str) -> bool:
    return all(key in row.params and is_same(row.params[key], rows[0].params.get(key)) for row in rows)


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    values = [row.params[key] for row in rows if key in row.params]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _groups(rows: Sequence[Row]) -> list[Group]:
    """A sweep's rows stand together, where its first one is."""
    members: dict[int, list[Row]] = {}
    for row in rows:
        if row.sweep_id is not None:
            members.setdefault(row.sweep_id, []).append(row)
    groups: list[Group] = []
    for row in rows:
        if row.sweep_id is None:
            if groups and groups[-1].sweep_id is None:
                groups[-1] = Group(None, [*groups[-1].rows, row])
            else:
                groups.append(Group(None, [row]))
        elif (swept := members.pop(row.sweep_id, None)) is not None:
            groups.append(Group(row.sweep_id, swept))
    return groups
