"""MLflow 3's endpoints of logged models. Source: mlflow/protos/service.proto (CreateLoggedModel and following)"""

from __future__ import annotations

from typing import Any

import orjson

from nautilus.tracking import models
from nautilus.tracking.access import RunFacts
from nautilus.tracking.artifact_routes import folder_listing
from nautilus.tracking.artifacts import Location, safe_names
from nautilus.tracking.call import DONE, Answer, Call, json_answer, pairs, texts
from nautilus.tracking.entities import MODEL_STATUS, model_artifact_uri
from nautilus.tracking.errors import InvalidParameter, NotPermitted
from nautilus.tracking.experiments import now_ms
from nautilus.tracking.filters import MODELS, parse_filter
from nautilus.tracking.models import DatasetFilter, ModelFacts, ModelOrdering, NewModel
from nautilus.tracking.pool import Connection
from nautilus.tracking.run_routes import readable_experiments
from nautilus.tracking.search import next_token, offset_of
from nautilus.tracking.validation import check_max_results, check_model_name, check_param, check_tag
from nautilus.tracking.wire import Fields, enum, field, flag, int32, message, required_text, text, wrong

DEFAULT_MAX_RESULTS = 100


async def create(call: Call) -> Answer:
    service, fields, caller = call.service, call.fields, call.caller
    experiment_id = await service.experiments.number(caller, required_text(fields, "experiment_id"))
    source = await _source_run(call, text(fields, "source_run_id"))
    if source is None:
        await service.access.check_experiment(caller, experiment_id, to_write=True)
    elif source.experiment_id != experiment_id:
        raise InvalidParameter(f"Run {source.run_id} does not belong to experiment {experiment_id}.")
    name = text(fields, "name")
    new = NewModel(
        experiment_id=experiment_id,
        name=check_model_name(name) if name else f"model-{now_ms()}",
        model_type=text(fields, "model_type") or "",
        source_run=None if source is None else source.number,
        params=dict(pairs(fields, "params", check_param)),
        tags=dict(pairs(fields, "tags", check_tag)),
    )

    async def work(connection: Connection) -> dict[str, Any]:
        model_id = await models.insert_model(connection, new, now_ms())
        found = await models.find_model(connection, model_id)
        return await models.fetch_model(connection, found.number)

    return json_answer({"model": await service.pool.run(work, is_atomic=True)})


async def _source_run(call: Call, run_id: str | None) -> RunFacts | None:
    """The run that makes the model: the one named, or in a job the job's own. Raises NotPermitted, NotFound."""
    if run_id:
        return await call.service.access.writable_run(call.caller, run_id)
    if call.caller.job is None:
        return None
    own = await call.service.access.own_run(call.caller)
    if own is None:
        raise NotPermitted("This job is not a Nautilus experiment's, so its token cannot log models.")
    return own


async def get(call: Call) -> Answer:
    also_deleted = flag(call.fields, "allow_deleted") or False
    model = await call.service.access.readable_model(call.caller, call.rest[0], also_deleted=also_deleted)
    return await _answer(call, model)


async def finalize(call: Call) -> Answer:
    model = await call.service.access.writable_model(call.caller, call.rest[0])
    status = enum(call.fields, "status", MODEL_STATUS)
    if not status:
        raise InvalidParameter("Missing value for required parameter 'status'.")
    async with call.service.pool.connection() as connection:
        await models.set_status(connection, model.number, status, now_ms())
    return await _answer(call, model)


async def set_tags(call: Call) -> Answer:
    model = await call.service.access.writable_model(call.caller, call.rest[0])
    tags = dict(pairs(call.fields, "tags", check_tag))
    async with call.service.pool.connection() as connection:
        await models.set_model_tags(connection, model.number, tags, now_ms())
    return await _answer(call, model)


async def delete_tag(call: Call) -> Answer:
    model = await call.service.access.writable_model(call.caller, call.rest[0])
    async with call.service.pool.connection() as connection:
        await models.delete_model_tag(connection, model, "/".join(call.rest[2:]))
    return DONE


async def log_params(call: Call) -> Answer:
    model = await call.service.access.writable_model(call.caller, call.rest[0])
    params = dict(pairs(call.fields, "params", check_param))
    await call.service.pool.run(
        lambda connection: models.add_model_params(connection, model, params), is_atomic=True
    )
    return DONE


async def delete(call: Call) -> Answer:
    model = await call.service.access.writable_model(call.caller, call.rest[0])
    async with call.service.pool.connection() as connection:
        await models.delete_model(connection, model.number)
    return DONE


async def list_artifacts(call: Call) -> Answer:
    model = await call.service.access.readable_model(call.caller, call.rest[0])
    inside = safe_names(text(call.fields, "artifact_directory_path") or "")
    where = Location(model.experiment_id, None, model.model_id, inside)
    listing = await folder_listing(call, where, prefix="/".join(inside))
    return json_answer({"root_uri": model_artifact_uri(model.experiment_id, model.model_id), **listing})


async def search(call: Call) -> Answer:
    fields = call.fields
    comparisons = parse_filter(text(fields, "filter"), MODELS)
    datasets = [_dataset(item) for item in _objects(fields, "datasets")]
    orderings = [_ordering(item) for item in _objects(fields, "order_by")]
    limit = check_max_results(int32(fields, "max_results"), DEFAULT_MAX_RESULTS)
    offset = offset_of(text(fields, "page_token"))
    experiment_ids = texts(fields, "experiment_ids")
    if not experiment_ids:
        raise InvalidParameter("Missing value for required parameter 'experiment_ids'.")
    experiments = await readable_experiments(call, experiment_ids)
    statement = models.models_query(experiments, comparisons, datasets, orderings, MODELS, limit + 1, offset)
    async with call.service.pool.connection() as connection:
        rows = await (await connection.execute(*statement)).fetchall()
    answer: dict[str, Any] = {"models": models.model_rows_json(rows[:limit])}
    if len(rows) > limit:
        answer["next_page_token"] = next_token(offset + limit)
    return Answer(orjson.dumps(answer))


def _objects(fields: Fields, name: str) -> list[Fields]:
    value = field(fields, name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(name, value)
    return [message(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _dataset(fields: Fields) -> DatasetFilter:
    name = text(fields, "dataset_name")
    if not name:
        raise InvalidParameter("`dataset_name` in the `datasets` clause must be specified.")
    return DatasetFilter(name, text(fields, "dataset_digest") or None)


def _ordering(fields: Fields) -> ModelOrdering:
    is_ascending = flag(fields, "ascending")
    name = text(fields, "dataset_name")
    dataset = DatasetFilter(name, text(fields, "dataset_digest") or None) if name else None
    return ModelOrdering(required_text(fields, "field_name"), is_ascending is not False, dataset)


async def _answer(call: Call, model: ModelFacts) -> Answer:
    async with call.service.pool.connection() as connection:
        return json_answer({"model": await models.fetch_model(connection, model.number)})
