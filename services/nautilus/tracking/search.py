# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""SQL for MLflow's searches: pure builders of (statement, parameters), and their page tokens.

Keys and values are always parameters. A metric is compared by its latest value; NaN satisfies no comparison but
`!=`. Orders put what has a value first, then NaN, then what has none.

Source: mlflow/store/tracking/sqlalchemy_store.py `_get_sqlalchemy_filter_clauses`, `_get_orderby_clauses` (3.17)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, LiteralString

import orjson

from nautilus.tracking.entities import RUN_COLUMNS
from nautilus.tracking.errors import InvalidParameter
from nautilus.tracking.filters import Comparison, Entity, Ordering

Statement = tuple[Any, list[Any]]
MAX_OFFSET = 10_000_000

_OPERATORS: dict[str, LiteralString] = {
    "=": "=",
    "!=": "<>",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "LIKE": "LIKE",
    "ILIKE": "ILIKE",
    "IN": "= ANY",
    "NOT IN": "<> ALL",
}
_RUN_ATTRIBUTES = {
    "run_id": "r.run_id",
    "run_name": "r.name",
    "user_id": "r.user_name",
    "status": "(ARRAY['RUNNING','SCHEDULED','FINISHED','FAILED','KILLED'])[r.status]",
    "start_time": "r.start_time_ms",
    "end_time": "r.end_time_ms",
    "artifact_uri": "('mlflow-artifacts:/' || r.experiment_id || '/' || r.run_id || '/artifacts')",
}
_EXPERIMENT_ATTRIBUTES = {
    "name": "x.name",
    "experiment_id": "x.id::text",
    "creation_time": "x.created_ms",
    "last_update_time": "x.updated_ms",
}
_KEY = "(SELECT k.id FROM tracking_metric_key k WHERE k.name = %s)"


def runs_query(
    experiment_ids: Sequence[int],
    view: str,
    comparisons: Sequence[Comparison],
    orderings: Sequence[Ordering],
    limit: int,
    offset: int,
) -> Statement:
    """Runs of these experiments as rows of RUN_COLUMNS. `view` is ACTIVE_ONLY, DELETED_ONLY or ALL."""
    where, values = ["r.experiment_id = ANY(%s)"], [list(experiment_ids)]
    if view != "ALL":
        where.append("r.deleted_at IS NULL" if view == "ACTIVE_ONLY" else "r.deleted_at IS NOT NULL")
    for comparison in comparisons:
        clause, parameters = _run_clause(comparison)
        where.append(clause)
        values += parameters
    joins, order, joined = _run_order(orderings)
    # The page is cut before the parts of its runs are put together.
    statement = (
        f"SELECT {RUN_COLUMNS} FROM (SELECT r.*, row_number() OVER (ORDER BY {', '.join(order)}) AS place"
        f" FROM tracking_run r {' '.join(joins)} WHERE {' AND '.join(where)}"
        f" ORDER BY {', '.join(order)} LIMIT %s OFFSET %s) r ORDER BY r.place"
    )
    return statement, [*joined, *values, limit, offset]


def _run_clause(comparison: Comparison) -> tuple[str, list[Any]]:
    key, value = comparison.key, comparison.value
    if comparison.entity is Entity.ATTRIBUTE:
        clause, parameters = compare(_RUN_ATTRIBUTES[key], comparison.operator, value)
        return clause, parameters
    if comparison.entity is Entity.DATASET:
        column = "i.tags ->> 'mlflow.data.context'" if key == "context" else f"d.{key}"
        clause, parameters = compare(column, comparison.operator, value)
        return (
            "EXISTS (SELECT FROM tracking_input i JOIN tracking_dataset d ON d.id = i.dataset"
            f" WHERE i.run = r.id AND {clause})"
        ), parameters
    if comparison.entity is Entity.METRIC:
        clause, parameters = compare("m.value", comparison.operator, value)
        if comparison.operator != "!=":
            clause += " AND m.value <> 'NaN'"
        return (
            f"EXISTS (SELECT FROM tracking_latest_metric m WHERE m.run = r.id AND m.key = {_KEY} AND {clause})",
            [
                key,
                *parameters,
            ],
        )
    table = "tracking_param" if comparison.entity is Entity.PARAM else "tracking_tag"
    exists = f"EXISTS (SELECT FROM {table} p WHERE p.run = r.id AND p.key = %s"
    if comparison.operator in ("IS NULL", "IS NOT NULL"):
        return ("NOT " if comparison.operator == "IS NULL" else "") + exists + ")", [key]
    clause, parameters = compare("p.value", comparison.operator, value)
    return f"{exists} AND {clause})", [key, *parameters]


def compare(column: str, operator: str, value: Any) -> tuple[str, list[Any]]:
    """`column operator value`. LIKE has no escape character (as with MLflow's default store)."""
    sql = _OPERATORS[operator]
    if operator in ("IN", "NOT IN"):
        return f"{column} {sql}(%s)", [list(value)]
    if operator in ("LIKE", "ILIKE"):
        return f"{column} {sql} %s ESCAPE ''", [value]
    return f"{column} {sql} %s", [value]


def _run_order(orderings: Sequence[Ordering]) -> tuple[list[str], list[str], list[Any]]:
    """Joins, ORDER BY expressions, and the joins' parameters."""
    joins: list[str] = []
    order: list[str] = []
    parameters: list[Any] = []
    for index, ordering in enumerate(orderings):
        alias, direction = f"o{index}", "ASC" if ordering.is_ascending else "DESC"
        if ordering.entity is Entity.ATTRIBUTE:
            order.append(f"{_RUN_ATTRIBUTES[ordering.key]} {direction} NULLS LAST")
            continue
        parameters.append(ordering.key)
        if ordering.entity is Entity.METRIC:
            joins.append(
                f"LEFT JOIN tracking_latest_metric {alias} ON {alias}.run = r.id AND {alias}.key = {_KEY}"
            )
            order.append(
                f"CASE WHEN {alias}.value = 'NaN' THEN 1 WHEN {alias}.value IS NULL THEN 2 ELSE 0 END"
            )
        else:
            table = "tracking_param" if ordering.entity is Entity.PARAM else "tracking_tag"
            joins.append(f"LEFT JOIN {table} {alias} ON {alias}.run = r.id AND {alias}.key = %s")
        order.append(f"{alias}.value {direction} NULLS LAST")
    if not any(
        ordering.entity is Entity.ATTRIBUTE and ordering.key == "start_time" for ordering in orderings
    ):
        order.append("r.start_time_ms DESC")
    return joins, [*order, "r.id DESC"], parameters


def experiments_query(
    visible: Sequence[int],
    comparisons: Sequence[Comparison],
    orderings: Sequence[Ordering],
    limit: int,
    offset: int,
) -> Statement:
    """Experiments as (id, name, created_ms, updated_ms, tags)."""
    where, values = ["x.id = ANY(%s)"], [list(visible)]
    for comparison in comparisons:
        if comparison.entity is Entity.ATTRIBUTE:
            clause, parameters = compare(
                _EXPERIMENT_ATTRIBUTES[comparison.key], comparison.operator, comparison.value
            )
        elif comparison.operator in ("IS NULL", "IS NOT NULL"):
            clause, parameters = f"(x.tags ->> %s) {comparison.operator}", [comparison.key]
        else:
            clause, parameters = compare("(x.tags ->> %s)", comparison.operator, comparison.value)
            parameters = [comparison.key, *parameters]
        where.append(clause)
        values += parameters
    order = [
        f"{'x.id' if ordering.key == 'experiment_id' else _EXPERIMENT_ATTRIBUTES[ordering.key]}"
        f" {'ASC' if ordering.is_ascending else 'DESC'}"
        for ordering in orderings
    ] or ["x.created_ms DESC"]
    statement = (
        "SELECT x.id, x.name, x.created_ms, x.updated_ms, x.tags FROM tracking_experiment x"
        f" WHERE {' AND '.join(where)} ORDER BY {', '.join(order)}, x.id ASC LIMIT %s OFFSET %s"
    )
    return statement, [*values, limit, offset]


def offset_of(token: str | None) -> int:
    """Where the page starts that a token names. Raises InvalidParameter."""
    if not token:
        return 0
    try:
        offset = orjson.loads(base64.b64decode(token, validate=True))["offset"]
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise InvalidParameter("Invalid page token, could not base64-decode") from error
    if type(offset) is not int or not 0 <= offset <= MAX_OFFSET:
        raise InvalidParameter("Invalid page token")
    return offset


def next_token(offset: int) -> str:
    return base64.b64encode(orjson.dumps({"offset": offset})).decode()
