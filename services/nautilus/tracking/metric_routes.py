"""MLflow's endpoints of metrics. `log_metric` and `log_batch` are what a training loop waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nautilus.tracking import curves, models, runs
from nautilus.tracking.access import RunFacts
from nautilus.tracking.call import DONE, Answer, Call, json_answer, pairs, run_id_of, texts
from nautilus.tracking.errors import InvalidParameter, NotFound
from nautilus.tracking.points import Points, insert, read_metric, read_metrics
from nautilus.tracking.pool import Connection
from nautilus.tracking.search import next_token, offset_of
from nautilus.tracking.validation import (
    check_batch,
    check_param,
    check_run_id,
    check_tag,
    check_unique_params,
)
from nautilus.tracking.wire import INT64_MAX, INT64_MIN, Fields, field, int32, int64, required_text, text


async def log_metric(call: Call) -> Answer:
    fields = call.fields
    key, step, timestamp_ms, value = read_metric(fields)
    run = await call.service.access.writable_run(call.caller, run_id_of(fields))
    points = Points([key], [step], [timestamp_ms], [value])
    if text(fields, "model_id"):
        await _log_model_metrics(call, run, [fields], points)
    await call.service.log(run, points)
    return DONE


async def log_batch(call: Call) -> Answer:
    """Metrics alone are one statement; with parameters or tags, all or nothing in one transaction."""
    service, fields = call.service, call.fields
    run_id = check_run_id(run_id_of(fields))
    metrics = fields.get("metrics")
    points = read_metrics(metrics, service.keys.known)
    params, tags = pairs(fields, "params", check_param), pairs(fields, "tags", check_tag)
    check_batch(len(points), len(params), len(tags))
    check_unique_params([key for key, _ in params])
    run = await service.access.writable_run(call.caller, run_id)
    if params or tags or not points.keys:
        await _log_together(call, run, points, params, dict(tags))
    else:
        await service.log(run, points)
    if isinstance(metrics, list) and any("model_id" in metric or "modelId" in metric for metric in metrics):
        await _log_model_metrics(call, run, metrics, points)
    return DONE


async def _log_together(
    call: Call, run: RunFacts, points: Points, params: Sequence[tuple[str, str]], tags: dict[str, str]
) -> None:
    service = call.service
    if points.keys:
        # Numbers of names must not be remembered from a transaction that is rolled back.
        await service.pool.run(lambda connection: service.keys.numbers(connection, points.keys))

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        if params:
            await runs.set_params(connection, run, params, is_single=False)
        if points.keys:
            await insert(connection, service.keys, run.number, points)
        await runs.set_tags(connection, run, tags)

    await service.pool.run(work, is_atomic=True)
    if points.keys:
        service.live.committed(run.run_id, points)


async def _log_model_metrics(call: Call, run: RunFacts, metrics: Sequence[Fields], points: Points) -> None:
    """The points that name a model, as the model's own too. Raises NotFound for a model of another project."""
    named = [
        (index, model_id) for index, metric in enumerate(metrics) if (model_id := text(metric, "model_id"))
    ]
    service = call.service

    async def work(connection: Connection) -> None:
        numbers = await service.keys.numbers(connection, points.keys)
        found: dict[str, int] = {}
        for model_id in {model_id for _, model_id in named}:
            model = await models.find_model(connection, model_id)
            if model.experiment_id != run.experiment_id:
                raise models.no_such_model(model_id)
            found[model_id] = model.number
        rows: list[Sequence[Any]] = [
            (
                found[model_id],
                numbers[points.keys[index]],
                run.number,
                points.steps[index],
                points.timestamps_ms[index],
                points.values[index],
                text(metrics[index], "dataset_name"),
                text(metrics[index], "dataset_digest"),
            )
            for index, model_id in named
        ]
        if rows:
            await models.insert_model_metrics(connection, rows)

    await service.pool.run(work)


async def get_history(call: Call) -> Answer:
    """GET metrics/get-history. Without `max_results` at most 100,000 points; a token leads to the others."""
    fields = call.fields
    run_id, key = run_id_of(fields), required_text(fields, "metric_key")
    limit = int32(fields, "max_results")
    if limit is not None and limit <= 0:
        raise InvalidParameter(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be a positive integer."
        )
    limit = min(limit or curves.MAX_HISTORY_PAGE, curves.MAX_HISTORY_PAGE)
    offset = offset_of(text(fields, "page_token"))
    run = await call.service.access.readable_run(call.caller, run_id)
    async with call.service.pool.connection() as connection:
        metrics, has_more = await curves.history(connection, run.number, key, limit, offset)
    answer: dict[str, Any] = {"metrics": metrics}
    if has_more:
        answer["next_page_token"] = next_token(offset + limit)
    return json_answer(answer)


async def get_history_bulk(call: Call) -> Answer:
    """GET metrics/get-history-bulk, which MLflow's pages use."""
    fields = call.fields
    run_ids, key = texts(fields, "run_id") or texts(fields, "run_ids"), required_text(fields, "metric_key")
    limit = max(1, min(int32(fields, "max_results") or curves.MAX_BULK_POINTS, curves.MAX_BULK_POINTS))
    numbers = await _readable(call, run_ids)
    async with call.service.pool.connection() as connection:
        return json_answer({"metrics": await curves.bulk_history(connection, numbers, key, limit)})


async def get_history_bulk_interval(call: Call) -> Answer:
    """GET metrics/get-history-bulk-interval: an even sample of each run's curve."""
    fields = call.fields
    run_ids, key = texts(fields, "run_ids"), required_text(fields, "metric_key")
    points = int32(fields, "max_results")
    points = curves.MAX_POINTS_PER_RUN if points is None else points
    if not 1 <= points <= curves.MAX_POINTS_PER_RUN:
        raise InvalidParameter(f"max_results must be between 1 and {curves.MAX_POINTS_PER_RUN}.")
    first, last = int64(fields, "start_step"), int64(fields, "end_step")
    if (first is None) != (last is None):
        raise InvalidParameter("If either start step or end step are specified, both must be specified.")
    if first is not None and last is not None and first > last:
        raise InvalidParameter(
            f"end_step must be greater than start_step. Found start_step={first} and end_step={last}."
        )
    steps = (INT64_MIN if first is None else first, INT64_MAX if last is None else last)
    numbers = await _readable(call, run_ids)
    async with call.service.pool.connection() as connection:
        return json_answer({"metrics": await curves.sampled_history(connection, numbers, key, steps, points)})


async def _readable(call: Call, run_ids: list[str]) -> list[int]:
    if not run_ids:
        raise InvalidParameter("The request must specify at least one run_id.")
    if len(run_ids) > curves.MAX_RUNS:
        raise InvalidParameter(
            f"The request cannot specify more than {curves.MAX_RUNS} run_ids. Received {len(run_ids)} run_ids."
        )
    return [(await call.service.access.readable_run(call.caller, run_id)).number for run_id in run_ids]


async def log_inputs(call: Call) -> Answer:
    """POST runs/log-inputs: datasets and models that the run read."""
    run = await call.service.access.writable_run(call.caller, run_id_of(call.fields))
    datasets = [
        _dataset_input(item, f"datasets[{index}]")
        for index, item in enumerate(_list(call.fields, "datasets"))
    ]
    model_ids = [required_text(item, "model_id") for item in _list(call.fields, "models")]

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        numbers = [(await _model_of(connection, run, model_id)) for model_id in model_ids]
        await runs.add_inputs(connection, run, datasets, numbers)

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def log_outputs(call: Call) -> Answer:
    """POST runs/outputs: models that the run gave out."""
    run = await call.service.access.writable_run(call.caller, run_id_of(call.fields))
    outputs = [
        (required_text(item, "model_id"), int64(item, "step") or 0) for item in _list(call.fields, "models")
    ]

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        await runs.add_outputs(
            connection,
            run,
            [(await _model_of(connection, run, model_id), step) for model_id, step in outputs],
        )

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def _model_of(connection: Connection, run: RunFacts, model_id: str) -> int:
    model = await models.find_model(connection, model_id)
    if model.experiment_id != run.experiment_id:
        raise NotFound(f"Logged model with ID '{model_id[:300]}' not found.")
    return model.number


def _list(fields: Fields, name: str) -> list[Fields]:
    value = field(fields, name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidParameter(f"Parameter '{name}' must be a list of objects.")
    return value


def _dataset_input(item: Fields, path: str) -> runs.DatasetInput:
    from nautilus.tracking import validation as limits

    dataset = field(item, "dataset")
    if not isinstance(dataset, dict):
        raise InvalidParameter(f"{path}: Dataset cannot be None")
    known = {
        name: text(dataset, name) for name in ("name", "digest", "source_type", "source", "schema", "profile")
    }
    for name, limit in (
        ("name", limits.MAX_DATASET_NAME_LENGTH),
        ("digest", limits.MAX_DATASET_DIGEST_LENGTH),
        ("source", limits.MAX_DATASET_SOURCE_LENGTH),
        ("schema", limits.MAX_DATASET_SCHEMA_LENGTH),
        ("profile", limits.MAX_DATASET_PROFILE_LENGTH),
    ):
        limits.check_length(name, limit, known[name] or "")
    if not known["name"] or not known["digest"]:
        raise InvalidParameter(f"{path}: Dataset name and digest cannot be None")
    tags = pairs(item, "tags")
    for key, value in tags:
        limits.check_length("key", limits.MAX_INPUT_TAG_KEY_LENGTH, key)
        limits.check_length("value", limits.MAX_INPUT_TAG_VALUE_LENGTH, value)
    return runs.DatasetInput(
        name=known["name"],
        digest=known["digest"],
        source_type=known["source_type"] or "",
        source=known["source"] or "",
        schema=known["schema"],
        profile=known["profile"],
        tags=dict(tags),
    )
