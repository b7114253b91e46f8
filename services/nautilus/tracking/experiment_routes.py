"""MLflow's endpoints of experiments. Source: https://mlflow.org/docs/latest/api_reference/rest-api.html"""

from __future__ import annotations

from nautilus.tracking.call import DONE, Answer, Call, json_answer, texts
from nautilus.tracking.errors import InvalidParameter
from nautilus.tracking.run_routes import readable_experiments
from nautilus.tracking.validation import check_max_results
from nautilus.tracking.wire import int64, required_text, text

DEFAULT_MAX_RESULTS = 1000
MAX_DATASET_EXPERIMENTS = 20
MAX_DATASET_SUMMARIES = 1000


async def create(call: Call) -> Answer:
    name = required_text(call.fields, "name")
    return json_answer({"experiment_id": await call.service.experiments.create(call.caller, name)})


async def get(call: Call) -> Answer:
    experiment_id = required_text(call.fields, "experiment_id")
    return json_answer({"experiment": await call.service.experiments.get(call.caller, experiment_id)})


async def get_by_name(call: Call) -> Answer:
    name = required_text(call.fields, "experiment_name")
    return json_answer({"experiment": await call.service.experiments.get_by_name(call.caller, name)})


async def search(call: Call) -> Answer:
    """GET or POST experiments/search. No experiment is ever deleted, so that view is empty."""
    fields = call.fields
    limit = check_max_results(int64(fields, "max_results"), DEFAULT_MAX_RESULTS)
    if text_or_number(fields.get("view_type")) in ("2", "DELETED_ONLY"):
        return json_answer({})
    found = await call.service.experiments.search(
        call.caller, text(fields, "filter"), texts(fields, "order_by"), limit, text(fields, "page_token")
    )
    return json_answer(found)


def text_or_number(value: object) -> str:
    return str(value) if isinstance(value, str | int) else ""


async def set_tag(call: Call) -> Answer:
    fields = call.fields
    await call.service.experiments.set_tag(
        call.caller,
        required_text(fields, "experiment_id"),
        required_text(fields, "key"),
        text(fields, "value") or "",
    )
    return DONE


async def delete_tag(call: Call) -> Answer:
    fields = call.fields
    await call.service.experiments.delete_tag(
        call.caller, required_text(fields, "experiment_id"), required_text(fields, "key")
    )
    return DONE


async def refuse_change(call: Call) -> Answer:
    """POST experiments/delete, restore, update."""
    await call.service.experiments.refuse_change(call.caller, required_text(call.fields, "experiment_id"))
    raise AssertionError("unreachable")


async def search_datasets(call: Call) -> Answer:
    """POST experiments/search-datasets: which datasets the runs of these experiments read."""
    experiment_ids = texts(call.fields, "experiment_ids")
    if not experiment_ids:
        raise InvalidParameter("SearchDatasets request must specify at least one experiment_id.")
    if len(experiment_ids) > MAX_DATASET_EXPERIMENTS:
        raise InvalidParameter(
            f"SearchDatasets request cannot specify more than {MAX_DATASET_EXPERIMENTS} experiment_ids."
            f" Received {len(experiment_ids)} experiment_ids."
        )
    experiments = await readable_experiments(call, experiment_ids)
    async with call.service.pool.connection() as connection:
        rows = await connection.execute(
            "SELECT DISTINCT d.experiment_id, d.name, d.digest, i.tags ->> 'mlflow.data.context'"
            " FROM tracking_dataset d JOIN tracking_input i ON i.dataset = d.id WHERE d.experiment_id = ANY(%s)"
            " ORDER BY 1, 2, 3, 4 LIMIT %s",
            (experiments, MAX_DATASET_SUMMARIES),
        )
        found = await rows.fetchall()
    summaries = [
        {"experiment_id": str(number), "name": name, "digest": digest}
        | ({"context": context} if context else {})
        for number, name, digest, context in found
    ]
    return json_answer({"dataset_summaries": summaries})
