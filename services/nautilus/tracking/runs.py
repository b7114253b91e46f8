# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""MLflow's runs: made, changed, deleted and restored; their parameters, tags, datasets and models.

Every write locks or joins the run's row in the statement that changes something, so that a deleted run takes
nothing, whatever anybody remembers of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from nautilus.tracking.access import RunFacts, no_such_run
from nautilus.tracking.entities import RUN_STATUS
from nautilus.tracking.errors import InvalidParameter, NotFound
from nautilus.tracking.pool import Connection

RUN_NAME_TAG = "mlflow.runName"
PARENT_TAG = "mlflow.parentRunId"
LOGGED_MODELS_TAG = "mlflow.log-model.history"


@dataclass(frozen=True)
class NewRun:
    """A run to make; its experiment exists. `made_by` is the row of the run whose job makes it."""

    experiment_id: int
    name: str
    user_name: str
    start_time_ms: int
    run_id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: int = RUN_STATUS["RUNNING"]
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    made_by: int | None = None


@dataclass(frozen=True)
class DatasetInput:
    """What a run read. `source`, `schema`, `profile` are the client's texts."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: Mapping[str, str]


async def insert_run(connection: Connection, run: NewRun) -> int:
    """The new row's number. Call it in a transaction: run, parameters and tags belong together."""
    rows = await connection.execute(
        "INSERT INTO tracking_run (run_id, experiment_id, made_by_run, name, user_name, status, start_time_ms)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
        (run.run_id, run.experiment_id, run.made_by, run.name, run.user_name, run.status, run.start_time_ms),
    )
    row = await rows.fetchone()
    assert row is not None
    number = int(row[0])
    await _upsert(connection, "tracking_tag", number, {**run.tags, RUN_NAME_TAG: run.name})
    await _upsert(connection, "tracking_param", number, run.params)
    return number


async def lock_active(connection: Connection, run: RunFacts) -> None:
    """Holds the run against deletion until the transaction ends. Raises InvalidParameter where it is deleted."""
    rows = await connection.execute(
        "SELECT deleted_at IS NULL FROM tracking_run WHERE id = %s FOR SHARE", (run.number,)
    )
    row = await rows.fetchone()
    if row is None:
        raise no_such_run(run.run_id)
    if not row[0]:
        raise not_active(run.run_id)


def not_active(run_id: str) -> InvalidParameter:
    return InvalidParameter(f"The run {run_id} must be in the 'active' state. Current state is deleted.")


async def set_params(
    connection: Connection, run: RunFacts, params: Sequence[tuple[str, str]], *, is_single: bool
) -> None:
    """Adds parameters. A parameter never changes: raises InvalidParameter for another value, and adds none then.

    Call it in a transaction that has the run locked.
    """
    keys, values = [key for key, _ in params], [value for _, value in params]
    done = await connection.execute(
        "INSERT INTO tracking_param (run, key, value) SELECT %s, * FROM unnest(%s::text[], %s::text[])"
        " ON CONFLICT DO NOTHING",
        (run.number, keys, values),
    )
    if done.rowcount == len(params):
        return
    rows = await connection.execute(
        "SELECT key, value FROM tracking_param WHERE run = %s AND key = ANY(%s)", (run.number, keys)
    )
    old: dict[str, str] = {stored[0]: stored[1] for stored in await rows.fetchall()}
    changed = [(key, value) for key, value in params if old[key] != value]
    if not changed:
        return
    if is_single:
        key, value = changed[0]
        raise InvalidParameter(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{old[key]}'"
            f" for run ID='{run.run_id}'. Attempted logging new value '{value}'."
        )
    told = [{"key": key, "old_value": old[key], "new_value": value} for key, value in changed]
    raise InvalidParameter(
        f"Changing param values is not allowed. Params were already logged='{told}' for run ID='{run.run_id}'."
    )


async def set_tags(connection: Connection, run: RunFacts, tags: Mapping[str, str]) -> None:
    """Adds or replaces tags; `mlflow.runName` renames the run. Call it in a transaction that has the run locked."""
    if name := tags.get(RUN_NAME_TAG):
        await connection.execute("UPDATE tracking_run SET name = %s WHERE id = %s", (name, run.number))
    await _upsert(connection, "tracking_tag", run.number, tags)


async def delete_tag(connection: Connection, run: RunFacts, key: str) -> None:
    """Raises NotFound where the run has no such tag."""
    done = await connection.execute("DELETE FROM tracking_tag WHERE run = %s AND key = %s", (run.number, key))
    if done.rowcount == 0:
        raise NotFound(f"No tag with name: {key[:300]} in run with id {run.run_id}")


async def update_run(
    connection: Connection, run: RunFacts, status: int | None, end_time_ms: int | None, name: str | None
) -> None:
    """MLflow's runs/update; None and an empty name leave things as they are. Raises InvalidParameter (deleted)."""
    done = await connection.execute(
        "UPDATE tracking_run SET status = coalesce(%s::smallint, status),"
        " end_time_ms = coalesce(%s::bigint, end_time_ms), name = coalesce(%s::text, name)"
        " WHERE id = %s AND deleted_at IS NULL",
        (status, end_time_ms, name or None, run.number),
    )
    if done.rowcount == 0:
        raise not_active(run.run_id)
    if name:
        await _upsert(connection, "tracking_tag", run.number, {RUN_NAME_TAG: name})


async def set_deleted(connection: Connection, run: RunFacts, is_deleted: bool) -> None:
    """Hides the run, or shows it again; nothing of it is lost."""
    await connection.execute(
        "UPDATE tracking_run SET deleted_at = CASE WHEN %s THEN coalesce(deleted_at, now()) END WHERE id = %s",
        (is_deleted, run.number),
    )


async def record_model(connection: Connection, run: RunFacts, model: Mapping[str, Any]) -> None:
    """MLflow 2's runs/log-model: the model's description goes to the end of a tag's list."""
    rows = await connection.execute(
        "SELECT value FROM tracking_tag WHERE run = %s AND key = %s", (run.number, LOGGED_MODELS_TAG)
    )
    row = await rows.fetchone()
    models = [*_list_of(row[0] if row else "[]"), model]
    await _upsert(connection, "tracking_tag", run.number, {LOGGED_MODELS_TAG: orjson.dumps(models).decode()})


def _list_of(text: str) -> list[Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    return found if isinstance(found, list) else []


async def add_inputs(
    connection: Connection, run: RunFacts, datasets: Sequence[DatasetInput], models: Sequence[int]
) -> None:
    """Datasets and models that the run read; what is there already stays. `models` are rows' numbers."""
    for dataset in {(item.name, item.digest): item for item in reversed(datasets)}.values():
        await connection.execute(
            "INSERT INTO tracking_dataset (experiment_id, name, digest, source_type, source, schema, profile)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                run.experiment_id,
                dataset.name,
                dataset.digest,
                dataset.source_type,
                dataset.source,
                dataset.schema,
                dataset.profile,
            ),
        )
        await connection.execute(
            "INSERT INTO tracking_input (run, dataset, tags) SELECT %s, id, %s FROM tracking_dataset"
            " WHERE experiment_id = %s AND name = %s AND digest = %s ON CONFLICT DO NOTHING",
            (run.number, Jsonb(dict(dataset.tags)), run.experiment_id, dataset.name, dataset.digest),
        )
    await _link(connection, run, [(model, 0) for model in models], is_output=False)


async def add_outputs(connection: Connection, run: RunFacts, models: Sequence[tuple[int, int]]) -> None:
    """Models that the run gave out, as (row's number, step)."""
    await _link(connection, run, models, is_output=True)


async def _link(
    connection: Connection, run: RunFacts, models: Sequence[tuple[int, int]], *, is_output: bool
) -> None:
    if models:
        await connection.execute(
            "INSERT INTO tracking_model_link (run, is_output, model, step)"
            " SELECT %s, %s, * FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING",
            (run.number, is_output, [model for model, _ in models], [step for _, step in models]),
        )


async def _upsert(connection: Connection, table: str, run: int, items: Mapping[str, str]) -> None:
    if items:
        keys = sorted(items)
        await connection.execute(
            f"INSERT INTO {table} AS old (run, key, value) SELECT %s, * FROM unnest(%s::text[], %s::text[])"
            " ON CONFLICT (run, key) DO UPDATE SET value = excluded.value WHERE old.value <> excluded.value",
            (run, keys, [items[key] for key in keys]),
        )


def named(run: NewRun) -> NewRun:
    """The run with a name made of its id, for clients that give none."""
    return replace(run, name=f"run-{run.run_id[:8]}")
