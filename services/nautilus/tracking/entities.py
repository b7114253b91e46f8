# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""MLflow's objects as its JSON has them, mostly put together by PostgreSQL.

A list of 500 runs holds tens of thousands of keys and values. They never become Python objects: the database builds
the JSON of each run's parts (a NaN as "NaN", as protobuf does), and it goes into the answer as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from nautilus.tracking.pool import Connection
from nautilus.tracking.wire import unset_left_out

RUN_STATUS = {"RUNNING": 1, "SCHEDULED": 2, "FINISHED": 3, "FAILED": 4, "KILLED": 5}
RUN_STATUS_NAMES = {number: name for name, number in RUN_STATUS.items()}
MODEL_STATUS = {
    "LOGGED_MODEL_STATUS_UNSPECIFIED": 0,
    "LOGGED_MODEL_PENDING": 1,
    "LOGGED_MODEL_READY": 2,
    "LOGGED_MODEL_UPLOAD_FAILED": 3,
}
MODEL_STATUS_NAMES = {number: name for name, number in MODEL_STATUS.items()}
ARTIFACT_ROOT = "mlflow-artifacts:/"

RUN_COLUMNS = """
r.run_id, r.experiment_id, r.name, r.user_name, r.status, r.start_time_ms, r.end_time_ms, r.deleted_at IS NOT NULL,
(SELECT json_agg(json_build_object('key', p.key, 'value', p.value) ORDER BY p.key)::text
   FROM tracking_param p WHERE p.run = r.id),
(SELECT json_agg(json_build_object('key', t.key, 'value', t.value) ORDER BY t.key)::text
   FROM tracking_tag t WHERE t.run = r.id),
(SELECT json_agg(json_build_object(
     'key', k.name, 'value', m.value, 'timestamp', m.timestamp_ms, 'step', m.step) ORDER BY k.name)::text
   FROM tracking_latest_metric m JOIN tracking_metric_key k ON k.id = m.key WHERE m.run = r.id),
(SELECT json_agg(json_build_object(
     'tags', (SELECT coalesce(json_agg(json_build_object('key', e.key, 'value', e.value)), '[]')
                FROM jsonb_each_text(i.tags) e),
     'dataset', json_build_object('name', d.name, 'digest', d.digest, 'source_type', d.source_type,
                                  'source', d.source, 'schema', d.schema, 'profile', d.profile)) ORDER BY d.id)::text
   FROM tracking_input i JOIN tracking_dataset d ON d.id = i.dataset WHERE i.run = r.id),
(SELECT json_agg(json_build_object('model_id', m.model_id) ORDER BY m.id)::text
   FROM tracking_model_link l JOIN tracking_model m ON m.id = l.model WHERE l.run = r.id AND NOT l.is_output),
(SELECT json_agg(json_build_object('model_id', m.model_id, 'step', l.step) ORDER BY l.step, m.id)::text
   FROM tracking_model_link l JOIN tracking_model m ON m.id = l.model WHERE l.run = r.id AND l.is_output)
"""


def artifact_uri(experiment_id: int, run_id: str) -> str:
    return f"{ARTIFACT_ROOT}{experiment_id}/{run_id}/artifacts"


def model_artifact_uri(experiment_id: int, model_id: str) -> str:
    return f"{ARTIFACT_ROOT}{experiment_id}/models/{model_id}/artifacts"


def run_info(row: Sequence[Any]) -> dict[str, Any]:
    """MLflow's RunInfo of the first eight columns."""
    run_id, experiment_id, name, user_name, status, start_time_ms, end_time_ms, is_deleted = row[:8]
    return unset_left_out(
        run_id=run_id,
        run_uuid=run_id,
        run_name=name,
        experiment_id=str(experiment_id),
        user_id=user_name,
        status=RUN_STATUS_NAMES[status],
        start_time=start_time_ms,
        end_time=end_time_ms,
        artifact_uri=artifact_uri(experiment_id, run_id),
        lifecycle_stage="deleted" if is_deleted else "active",
    )


def run_json(row: Sequence[Any]) -> dict[str, Any]:
    """MLflow's Run of a row of RUN_COLUMNS; its parts stay the JSON text that the database made."""
    params, tags, metrics, datasets, models_in, models_out = (_fragment(text) for text in row[8:14])
    return {
        "info": run_info(row),
        "data": unset_left_out(metrics=metrics, params=params, tags=tags),
        "inputs": unset_left_out(dataset_inputs=datasets, model_inputs=models_in),
        "outputs": unset_left_out(model_outputs=models_out),
    }


def _fragment(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)


def experiment_json(row: Sequence[Any]) -> dict[str, Any]:
    """MLflow's Experiment of (id, name, created_ms, updated_ms, tags)."""
    number, name, created_ms, updated_ms, tags = row
    return unset_left_out(
        experiment_id=str(number),
        name=name,
        artifact_location=f"{ARTIFACT_ROOT}{number}",
        lifecycle_stage="active",
        creation_time=created_ms,
        last_update_time=updated_ms,
        tags=[{"key": key, "value": value} for key, value in sorted(tags.items())],
    )


async def fetch_run(connection: Connection, number: int) -> dict[str, Any]:
    """The run whose row has this number; it exists."""
    rows = await connection.execute(f"SELECT {RUN_COLUMNS} FROM tracking_run r WHERE r.id = %s", (number,))
    row = await rows.fetchone()
    assert row is not None
    return run_json(row)
