"""Which columns the experiments table has, what is best in them, how sweeps group; the comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from nautilus.web import comparison, table


@dataclass(frozen=True)
class Row:
    id: int
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    sweep_id: int | None = None
    project_id: int = 1


def test_parameters_that_tell_rows_apart_are_columns_and_the_rest_is_said_once() -> None:
    rows = [Row(1, {"lr": 0.1, "epochs": 3}), Row(2, {"lr": 0.2, "epochs": 3.0})]
    made = table.build(rows)
    assert [c.key for c in made.params] == ["lr"]
    assert made.constants == {"epochs": 3}


@pytest.mark.parametrize(("a", "b"), [(1, "1"), (True, 1), (None, 0), ([1], [2]), ("a", "b")])
def test_values_of_different_kinds_differ(a: Any, b: Any) -> None:
    assert [c.key for c in table.build([Row(1, {"x": a}), Row(2, {"x": b})]).params] == ["x"]


def test_a_parameter_that_one_row_lacks_is_a_column() -> None:
    assert [c.key for c in table.build([Row(1, {"x": 1}), Row(2)]).params] == ["x"]


def test_of_one_row_every_parameter_is_a_column() -> None:
    made = table.build([Row(1, {"a": 1, "b": 2})])
    assert [c.key for c in made.params] == ["a", "b"] and made.constants == {}


def test_many_columns_are_left_out_and_can_be_chosen() -> None:
    rows = [Row(n, {f"p{i}": n for i in range(20)}, {f"m{i:02}": 1.0 for i in range(20)}) for n in (1, 2)]
    made = table.build(rows)
    assert (len(made.params), len(made.metrics)) == (table.MOST_PARAMS, table.MOST_METRICS)
    assert "params.p19" in made.hidden and "metrics.m19" in made.hidden
    chosen = table.build(rows, ["params.p19", "metrics.m19", "metrics.nonsense"])
    assert [c.name for c in chosen.columns] == ["metrics.m19", "params.p19"]


def test_metrics_that_say_how_good_come_before_others_and_those_of_the_machine_last() -> None:
    rows = [
        Row(1, {}, {"system/cpu": 1, "epoch": 3, "accuracy": 0.9}),
        Row(2, {}, {"epoch": 3, "system/cpu": 2}),
    ]
    assert [c.key for c in table.build(rows).metrics] == ["accuracy", "epoch", "system/cpu"]


@pytest.mark.parametrize(
    ("metric", "toward"),
    [
        ("accuracy", "max"),
        ("val/acc", "max"),
        ("test_f1", "max"),
        ("loss", "min"),
        ("train.log-loss", "min"),
        ("RMSE", "min"),
        ("epoch", None),
        ("glossary", None),
        ("", None),
    ],
)
def test_the_name_says_whether_more_is_better(metric: str, toward: str | None) -> None:
    assert table.direction(metric) == toward


def test_the_best_is_marked_within_its_project() -> None:
    rows = [
        Row(1, {}, {"loss": 0.5}),
        Row(2, {}, {"loss": 0.2}),
        Row(3, {}, {"loss": float("nan")}),
        Row(4, {}, {"loss": None}),
        Row(5, {}, {"loss": 0.01}, project_id=2),
    ]
    assert table.best_rows(rows, "loss") == {2}


def test_nothing_is_best_where_all_are_alike_or_nobody_knows() -> None:
    rows = [Row(1, {}, {"loss": 0.5, "epoch": 1}), Row(2, {}, {"loss": 0.5, "epoch": 2})]
    assert not table.best_rows(rows, "loss") and not table.best_rows(rows, "epoch")


def test_a_sweep_stands_together_where_its_first_row_is() -> None:
    rows = [Row(9), Row(8, sweep_id=2), Row(7), Row(6, sweep_id=2), Row(5)]
    assert [(g.sweep_id, [r.id for r in g.rows]) for g in table.build(rows).groups] == [
        (None, [9]),
        (2, [8, 6]),
        (None, [7, 5]),
    ]
    assert [[r.id for r in g.rows] for g in table.build(rows, is_grouped=False).groups] == [[9, 8, 7, 6, 5]]


def test_no_rows_make_no_groups() -> None:
    assert table.build([]).groups == [] and table.build([], is_grouped=False).groups == []


def test_a_comparison_puts_what_differs_first_and_knows_absent_from_null() -> None:
    rows = [Row(1, {"same": 1, "lr": 0.1, "x": None}), Row(2, {"same": 1.0, "lr": 0.2})]
    assert [(line.key, line.values, line.differs) for line in comparison.params(rows)] == [
        ("lr", [0.1, 0.2], True),
        ("x", [None, None], True),
        ("same", [1, 1.0], False),
    ]


def test_a_comparison_marks_the_best_metric() -> None:
    rows = [Row(1, {}, {"accuracy": 0.8}), Row(2, {}, {"accuracy": 0.9, "epoch": 1.0})]
    assert [(line.key, line.values, line.best) for line in comparison.metrics(rows)] == [
        ("accuracy", [0.8, 0.9], {1}),
        ("epoch", [None, 1.0], set()),
    ]
