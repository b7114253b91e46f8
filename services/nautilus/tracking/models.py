# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""MLflow 3's logged models: made by a run or alone, finalized when their files are there, tagged and searched.

Source: mlflow/store/tracking/sqlalchemy_store.py (logged models), mlflow/utils/search_logged_model_utils.py (3.17)
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from nautilus.tracking.entities import MODEL_STATUS, MODEL_STATUS_NAMES, model_artifact_uri
from nautilus.tracking.errors import InvalidParameter, NotFound
from nautilus.tracking.filters import Comparison, Entity, Vocabulary, parse_order_by
from nautilus.tracking.pool import Connection
from nautilus.tracking.search import Statement, compare
from nautilus.tracking.wire import unset_left_out

_COLUMNS = """
m.model_id, m.experiment_id, m.name, m.model_type, m.status, m.created_ms, m.updated_ms, s.run_id, m.params, m.tags,
(SELECT json_agg(json_build_object('key', k.name, 'value', x.value, 'timestamp', x.timestamp_ms, 'step', x.step,
     'dataset_name', x.dataset_name, 'dataset_digest', x.dataset_digest, 'model_id', m.model_id, 'run_id', r.run_id)
     ORDER BY k.name, x.step, x.timestamp_ms)::text
   FROM tracking_model_metric x JOIN tracking_metric_key k ON k.id = x.key JOIN tracking_run r ON r.id = x.run
   WHERE x.model = m.id)
"""
_FROM = "tracking_model m LEFT JOIN tracking_run s ON s.id = m.source_run"
_ATTRIBUTES = {
    "name": "m.name",
    "model_id": "m.model_id",
    "model_type": "m.model_type",
    "status": "(ARRAY['UNSPECIFIED','PENDING','READY','FAILED'])[m.status + 1]",
    "source_run_id": "s.run_id",
    "creation_time": "m.created_ms",
    "last_updated_time": "m.updated_ms",
}


@dataclass(frozen=True)
class ModelFacts:
    """What never changes of a model."""

    number: int
    model_id: str
    experiment_id: int
    source_run_id: str | None


@dataclass(frozen=True)
class NewModel:
    experiment_id: int
    name: str
    model_type: str
    source_run: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class DatasetFilter:
    name: str
    digest: str | None


@dataclass(frozen=True)
class ModelOrdering:
    """`field` is an attribute or `metrics.<name>`, the metric as measured on that dataset where one is named."""

    field: str
    is_ascending: bool
    dataset: DatasetFilter | None


async def insert_model(connection: Connection, model: NewModel, now_ms: int) -> str:
    """The new model's id; it is pending."""
    model_id = f"m-{secrets.token_hex(16)}"
    await connection.execute(
        "INSERT INTO tracking_model"
        " (model_id, experiment_id, source_run, name, model_type, status, created_ms, updated_ms, params, tags)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            model_id,
            model.experiment_id,
            model.source_run,
            model.name,
            model.model_type,
            MODEL_STATUS["LOGGED_MODEL_PENDING"],
            now_ms,
            now_ms,
            Jsonb(dict(model.params)),
            Jsonb(dict(model.tags)),
        ),
    )
    return model_id


async def find_model(connection: Connection, model_id: str, *, also_deleted: bool = False) -> ModelFacts:
    """Raises NotFound."""
    rows = await connection.execute(
        f"SELECT m.id, m.model_id, m.experiment_id, s.run_id FROM {_FROM}"
        " WHERE m.model_id = %s AND (m.deleted_at IS NULL OR %s)",
        (model_id, also_deleted),
    )
    row = await rows.fetchone()
    if row is None:
        raise no_such_model(model_id)
    return ModelFacts(*row)


def no_such_model(model_id: str) -> NotFound:
    return NotFound(f"Logged model with ID '{model_id[:300]}' not found.")


async def fetch_model(connection: Connection, number: int) -> dict[str, Any]:
    rows = await connection.execute(f"SELECT {_COLUMNS} FROM {_FROM} WHERE m.id = %s", (number,))
    row = await rows.fetchone()
    assert row is not None
    return _model_json(row)


async def set_status(connection: Connection, number: int, status: int, now_ms: int) -> None:
    await connection.execute(
        "UPDATE tracking_model SET status = %s, updated_ms = %s WHERE id = %s", (status, now_ms, number)
    )


async def set_model_tags(connection: Connection, number: int, tags: Mapping[str, str], now_ms: int) -> None:
    await connection.execute(
        "UPDATE tracking_model SET tags = tags || %s, updated_ms = %s WHERE id = %s",
        (Jsonb(dict(tags)), now_ms, number),
    )


async def delete_model_tag(connection: Connection, model: ModelFacts, key: str) -> None:
    """Raises NotFound."""
    done = await connection.execute(
        "UPDATE tracking_model SET tags = tags - %s WHERE id = %s AND tags ? %s", (key, model.number, key)
    )
    if done.rowcount == 0:
        raise NotFound(f"No tag with key {key[:300]!r} found for model with ID {model.model_id!r}.")


async def add_model_params(connection: Connection, model: ModelFacts, params: Mapping[str, str]) -> None:
    """Raises InvalidParameter where one is there already with another value."""
    rows = await connection.execute(
        "SELECT params FROM tracking_model WHERE id = %s FOR UPDATE", (model.number,)
    )
    row = await rows.fetchone()
    old: Mapping[str, str] = row[0] if row else {}
    for key, value in params.items():
        if old.get(key, value) != value:
            raise InvalidParameter(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with"
                f" value='{old[key]}' for model ID='{model.model_id}'."
            )
    await connection.execute(
        "UPDATE tracking_model SET params = params || %s WHERE id = %s", (Jsonb(dict(params)), model.number)
    )


async def delete_model(connection: Connection, number: int) -> None:
    await connection.execute("UPDATE tracking_model SET deleted_at = now() WHERE id = %s", (number,))


async def insert_model_metrics(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Rows of (model, key, run, step, timestamp in ms, value, dataset name, dataset digest), by numbers."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO tracking_model_metric"
            " (model, key, run, step, timestamp_ms, value, dataset_name, dataset_digest)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            rows,
        )


def models_query(
    experiment_ids: Sequence[int],
    comparisons: Sequence[Comparison],
    datasets: Sequence[DatasetFilter],
    orderings: Sequence[ModelOrdering],
    vocabulary: Vocabulary,
    limit: int,
    offset: int,
) -> Statement:
    """Models as rows of the columns above. A comparison of a metric counts on the named datasets alone."""
    on_datasets, dataset_values = _on_datasets(datasets)
    where, values = ["m.experiment_id = ANY(%s)", "m.deleted_at IS NULL"], [list(experiment_ids)]
    if datasets and not any(comparison.entity is Entity.METRIC for comparison in comparisons):
        where.append(f"EXISTS (SELECT FROM tracking_model_metric x WHERE x.model = m.id{on_datasets})")
        values += dataset_values
    for comparison in comparisons:
        clause, parameters = _clause(comparison, on_datasets, dataset_values)
        where.append(clause)
        values += parameters
    order, order_values = _order(orderings, vocabulary)
    statement = (
        f"SELECT {_COLUMNS} FROM {_FROM} WHERE {' AND '.join(where)}"
        f" ORDER BY {', '.join(order)} LIMIT %s OFFSET %s"
    )
    return statement, [*values, *order_values, limit, offset]


def _on_datasets(datasets: Sequence[DatasetFilter]) -> tuple[str, list[Any]]:
    if not datasets:
        return "", []
    values: list[Any] = []
    clauses = []
    for dataset in datasets:
        values.append(dataset.name)
        clause = "x.dataset_name = %s"
        if dataset.digest is not None:
            values.append(dataset.digest)
            clause += " AND x.dataset_digest = %s"
        clauses.append(f"({clause})")
    return f" AND ({' OR '.join(clauses)})", values


def _clause(comparison: Comparison, on_datasets: str, dataset_values: list[Any]) -> tuple[str, list[Any]]:
    key, operator, value = comparison.key, comparison.operator, comparison.value
    if comparison.entity is Entity.ATTRIBUTE:
        return compare(_ATTRIBUTES[key], operator, value)
    if comparison.entity is Entity.METRIC:
        clause, parameters = compare("x.value", operator, value)
        if operator != "!=":
            clause += " AND x.value <> 'NaN'"
        return (
            "EXISTS (SELECT FROM tracking_model_metric x JOIN tracking_metric_key k ON k.id = x.key"
            f" WHERE x.model = m.id AND k.name = %s AND {clause}{on_datasets})"
        ), [key, *parameters, *dataset_values]
    column = "m.params" if comparison.entity is Entity.PARAM else "m.tags"
    clause, parameters = compare(f"({column} ->> %s)", operator, value)
    return clause, [key, *parameters]


def _order(orderings: Sequence[ModelOrdering], vocabulary: Vocabulary) -> tuple[list[str], list[Any]]:
    order: list[str] = []
    values: list[Any] = []
    fields = set()
    for ordering in orderings:
        parsed = parse_order_by([ordering.field], vocabulary)[0]
        direction = "ASC" if ordering.is_ascending else "DESC"
        if parsed.entity is Entity.ATTRIBUTE:
            fields.add(parsed.key)
            order.append(f"{_ATTRIBUTES[parsed.key]} {direction} NULLS LAST")
            continue
        on_dataset, dataset_values = _on_datasets([ordering.dataset] if ordering.dataset else [])
        order.append(
            "(SELECT x.value FROM tracking_model_metric x JOIN tracking_metric_key k ON k.id = x.key"
            f" WHERE x.model = m.id AND k.name = %s{on_dataset}"
            f" ORDER BY x.timestamp_ms DESC, x.step DESC, x.run LIMIT 1) {direction} NULLS LAST"
        )
        values += [parsed.key, *dataset_values]
    if "creation_time" not in fields:
        order.append("m.created_ms DESC")
    return [*order, "m.id DESC"], values


def model_rows_json(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [_model_json(row) for row in rows]


def _model_json(row: Sequence[Any]) -> dict[str, Any]:
    (
        model_id,
        experiment_id,
        name,
        model_type,
        status,
        created_ms,
        updated_ms,
        source_run_id,
        params,
        tags,
        metrics,
    ) = row
    info = unset_left_out(
        model_id=model_id,
        experiment_id=str(experiment_id),
        name=name,
        creation_timestamp_ms=created_ms,
        last_updated_timestamp_ms=updated_ms,
        artifact_uri=model_artifact_uri(experiment_id, model_id),
        status=MODEL_STATUS_NAMES[status],
        model_type=model_type,
        source_run_id=source_run_id,
        tags=_pairs(tags),
    )
    data = unset_left_out(
        params=_pairs(params), metrics=None if metrics is None else orjson.Fragment(metrics)
    )
    return {"info": info, "data": data}


def _pairs(items: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(items.items())]
