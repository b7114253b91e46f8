# ruff: noqa: S608 — statements are put together of constants alone; every value is a parameter
"""MLflow's endpoints of runs. Source: https://mlflow.org/docs/latest/api_reference/rest-api.html"""

from __future__ import annotations

import orjson

from nautilus.tracking import entities, runs, search
from nautilus.tracking.access import RunFacts
from nautilus.tracking.call import DONE, Answer, Call, json_answer, pairs, run_id_of, texts
from nautilus.tracking.entities import RUN_COLUMNS, RUN_STATUS, run_info, run_json
from nautilus.tracking.errors import InvalidParameter, NotPermitted
from nautilus.tracking.experiments import now_ms
from nautilus.tracking.filters import RUNS, parse_filter, parse_order_by
from nautilus.tracking.pool import Connection
from nautilus.tracking.runs import PARENT_TAG, RUN_NAME_TAG, NewRun
from nautilus.tracking.validation import (
    MAX_RUN_NAME_LENGTH,
    check_length,
    check_max_results,
    check_param,
    check_tag,
)
from nautilus.tracking.wire import enum, int32, int64, required_text, text

DEFAULT_MAX_RESULTS = 1000
_VIEWS = {"ACTIVE_ONLY": 1, "DELETED_ONLY": 2, "ALL": 3}
_VIEW_NAMES = {number: name for name, number in _VIEWS.items()}


async def create(call: Call) -> Answer:
    """POST runs/create. `user_id` is always the caller's own name, whatever the request says."""
    service, fields, caller = call.service, call.fields, call.caller
    experiment_id = await service.experiments.number(caller, text(fields, "experiment_id") or "0")
    tags = dict(pairs(fields, "tags", check_tag))
    own = await service.access.own_run(caller)
    if caller.job is None:
        await service.access.check_experiment(caller, experiment_id, to_write=True)
    elif own is None:
        raise NotPermitted(
            "This job is not a Nautilus experiment's, so its token cannot log runs; use a personal access token."
        )
    else:
        tags.setdefault(PARENT_TAG, own.run_id)
    name = text(fields, "run_name") or ""
    tagged = tags.get(RUN_NAME_TAG, "")
    if name and tagged and name != tagged:
        raise InvalidParameter(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values"
            f" (run_name='{name[:300]}', mlflow.runName='{tagged[:300]}')."
        )
    new = NewRun(
        experiment_id=experiment_id,
        name=check_length("run_name", MAX_RUN_NAME_LENGTH, name or tagged),
        user_name=caller.username,
        start_time_ms=int64(fields, "start_time") or now_ms(),
        tags=tags,
        made_by=None if own is None else own.made_by or own.number,
    )
    if not new.name:
        new = runs.named(new)

    async def work(connection: Connection) -> dict[str, object]:
        return await entities.fetch_run(connection, await runs.insert_run(connection, new))

    return json_answer({"run": await service.pool.run(work, is_atomic=True)})


async def get(call: Call) -> Answer:
    run = await call.service.access.readable_run(call.caller, run_id_of(call.fields))
    async with call.service.pool.connection() as connection:
        return json_answer({"run": await entities.fetch_run(connection, run.number)})


async def update(call: Call) -> Answer:
    run = await _writable(call)
    status = enum(call.fields, "status", RUN_STATUS)
    end_time_ms = int64(call.fields, "end_time")
    name = text(call.fields, "run_name")
    if name is not None:
        check_length("run_name", MAX_RUN_NAME_LENGTH, name)

    async def work(connection: Connection) -> dict[str, object]:
        await runs.update_run(connection, run, status, end_time_ms, name)
        rows = await connection.execute(
            f"SELECT {RUN_COLUMNS} FROM tracking_run r WHERE r.id = %s", (run.number,)
        )
        row = await rows.fetchone()
        assert row is not None
        return run_info(row)

    return json_answer({"run_info": await call.service.pool.run(work, is_atomic=True)})


async def delete(call: Call) -> Answer:
    await _set_deleted(call, is_deleted=True)
    return DONE


async def restore(call: Call) -> Answer:
    await _set_deleted(call, is_deleted=False)
    return DONE


async def _set_deleted(call: Call, *, is_deleted: bool) -> None:
    run = await _writable(call)
    own = await call.service.access.own_run(call.caller)
    if own is not None and own.number == run.number:
        raise NotPermitted("A job cannot delete its own run.")
    async with call.service.pool.connection() as connection:
        await runs.set_deleted(connection, run, is_deleted)


async def search_runs(call: Call) -> Answer:
    """POST runs/search. Experiments that the caller may not see add nothing."""
    fields = call.fields
    comparisons = parse_filter(text(fields, "filter"), RUNS)
    orderings = parse_order_by(texts(fields, "order_by"), RUNS)
    limit = check_max_results(int32(fields, "max_results"), DEFAULT_MAX_RESULTS)
    view = _VIEW_NAMES[enum(fields, "run_view_type", _VIEWS) or _VIEWS["ACTIVE_ONLY"]]
    offset = search.offset_of(text(fields, "page_token"))
    experiments = await readable_experiments(call, texts(fields, "experiment_ids"))
    statement = search.runs_query(experiments, view, comparisons, orderings, limit + 1, offset)
    async with call.service.pool.connection() as connection:
        rows = await (await connection.execute(*statement)).fetchall()
    answer: dict[str, object] = {"runs": [run_json(row) for row in rows[:limit]]}
    if len(rows) > limit:
        answer["next_page_token"] = search.next_token(offset + limit)
    return Answer(orjson.dumps(answer))


async def readable_experiments(call: Call, experiment_ids: list[str]) -> list[int]:
    """The projects' numbers; "0" is the job's own. Raises InvalidParameter for what is no number."""
    found: list[int] = []
    for experiment_id in dict.fromkeys(experiment_ids):
        if experiment_id == "0" and call.caller.job is not None:
            found.append(call.caller.job.project_id)
        elif not experiment_id.isascii() or not experiment_id.isdecimal():
            raise InvalidParameter(
                f"Invalid experiment ID '{experiment_id[:300]}'. Experiment ID must be a valid integer."
            )
        elif (
            len(experiment_id) <= 18
            and (await call.service.access.rights(call.caller, int(experiment_id))).can_read
        ):
            found.append(int(experiment_id))
    return found


async def log_param(call: Call) -> Answer:
    run = await _writable(call)
    key = required_text(call.fields, "key")
    param = check_param(key, text(call.fields, "value") or "")

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        await runs.set_params(connection, run, [param], is_single=True)

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def set_tag(call: Call) -> Answer:
    run = await _writable(call)
    key, value = check_tag(required_text(call.fields, "key"), text(call.fields, "value") or "")

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        await runs.set_tags(connection, run, {key: value})

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def delete_tag(call: Call) -> Answer:
    run = await _writable(call)
    key = required_text(call.fields, "key")

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        await runs.delete_tag(connection, run, key)

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def log_model(call: Call) -> Answer:
    """POST runs/log-model, of MLflow 2's clients."""
    run = await _writable(call)
    described = required_text(call.fields, "model_json")
    try:
        model = orjson.loads(described)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter("Malformed model info: it is not valid JSON.") from error
    needed = {"artifact_path", "flavors", "utc_time_created", "run_id"}
    if not isinstance(model, dict) or not needed <= model.keys():
        missing = sorted(needed - model.keys()) if isinstance(model, dict) else sorted(needed)
        raise InvalidParameter(f"Model json is missing mandatory fields: {missing}")
    tags = {
        key: model[key] for key in ("run_id", "artifact_path", "utc_time_created", "flavors") if key in model
    }

    async def work(connection: Connection) -> None:
        await runs.lock_active(connection, run)
        await runs.record_model(connection, run, tags)

    await call.service.pool.run(work, is_atomic=True)
    return DONE


async def _writable(call: Call) -> RunFacts:
    return await call.service.access.writable_run(call.caller, run_id_of(call.fields))
