"""MLflow's searches: filters, orders, pages, and how fast they are with thousands of runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from nautilus.gitlab.port import Project, Visibility
from nautilus.testing.tracking_server import TrackingServer

RUNS = {
    "a": {"loss": 0.5, "lr": "0.1", "owner": "ada", "start": 1000},
    "b": {"loss": 0.25, "lr": "0.01", "owner": "bob", "start": 2000},
    "c": {"loss": math.nan, "lr": "0.1", "owner": "Ada", "start": 3000},
    "d": {"start": 4000},
}

LIMIT_S = 0.1
"""For a list of 500 runs out of 5,000."""

FILTERS = {
    "": "dcba",
    "metrics.loss < 0.5": "b",
    "metrics.loss <= 0.5 AND params.lr = '0.1'": "a",
    "metrics.loss != 0.5": "cb",
    "metrics.loss > -1e3": "ba",
    "metrics.`val loss` = 0.25": "b",
    'metric."val loss" = .25': "b",
    "params.lr != '0.1'": "b",
    "params.model.layers = '3'": "cba",
    "param.`model.layers` LIKE '3%'": "cba",
    "tags.owner ILIKE 'AD%'": "ca",
    "tags.owner LIKE 'ad_'": "a",
    'tag.owner = "bob"': "b",
    "tags.owner IS NULL": "d",
    "params.lr is not null and tags.owner = 'ada'": "a",
    "attributes.status = 'FINISHED'": "cba",
    "status != 'FINISHED'": "d",
    "attr.start_time >= 3000": "dc",
    "created < 2000": "a",
    "end_time > 2000": "cb",
    "run_name = 'a'": "a",
    "attributes.`Run name` LIKE '%'": "dcba",
    "attributes.user_id = 'ada'": "dcba",
    "tags.`mlflow.runName` = 'c'": "c",
    "artifact_uri LIKE 'mlflow-artifacts:/%'": "dcba",
    "params.lr = '0.1' AND params.lr = '0.01'": "",
    "params.never = 'x''y'": "",
}
"""Filter → the names of the runs that it finds, newest first."""

ORDERS = {
    (): "dcba",
    ("metrics.loss ASC",): "bacd",
    ("metrics.loss DESC",): "abcd",
    ("params.lr",): "bcad",
    (
        "params.lr DESC",
        "start_time ASC",
    ): "acbd",
    ("tags.owner desc",): "bacd",
    ("attributes.start_time asc",): "abcd",
    ("end_time DESC",): "cbad",
    ("`run_name` ASC",): "abcd",
    ("metrics.`val loss`",): "bacd",
}
"""order_by → the names of all runs in that order."""

NO_FILTERS = [
    "metrics.loss",
    "metrics.loss >",
    "metrics.loss > 'a'",
    "params.lr = 0.1",
    "loss > 1",
    "foo.bar = 'x'",
    "metrics.loss > 1 OR metrics.loss < 0",
    "(metrics.loss > 1)",
    "params.lr > '1'",
    "metrics.loss LIKE 'a'",
    "start_time = 'x'",
    "attributes.status IN ('FINISHED')",
    "metrics.loss IS NULL",
    "run_id IN ()",
    "params.lr = '0.1",
    "params.`lr = 'x'",
    "tags.a = 'b' tags.c = 'd'",
    "AND",
    "metrics.a = 1 AND",
    "a;b",
    "--",
    "params.x RLIKE 'a'",
    "dataset.source = 'x'",
]
NO_ORDERS = ["loss", "metrics.loss sideways", "metrics.loss ASC DESC", "foo.x", "", "dataset.name"]
NO_TOKENS = ["garbage", "eyJvZmZzZXQiOiAtMX0=", "eyJvZmZzZXQiOiAiYSJ9", "W10=", "MQ=="]


@pytest.fixture
def runs(ada: MlflowClient, project: Project) -> dict[str, str]:
    """Run id → name: four runs of which the last has nothing."""
    found = {}
    for name, what in RUNS.items():
        run = ada.create_run(str(project.id), start_time=what["start"], run_name=name)
        found[run.info.run_id] = name
        if "loss" in what:
            ada.log_batch(
                run.info.run_id,
                metrics=[Metric("loss", what["loss"], 1, 0), Metric("val loss", what["loss"], 1, 0)],
                params=[Param("lr", what["lr"]), Param("model.layers", "3")],
                tags=[RunTag("owner", what["owner"])],
            )
            ada.set_terminated(run.info.run_id, "FINISHED", end_time=what["start"] + 500)
    return found


def test_filters_find_what_mlflow_would(ada: MlflowClient, project: Project, runs: dict[str, str]) -> None:
    found = {text: _names(runs, ada.search_runs([str(project.id)], text)) for text in FILTERS}
    assert found == FILTERS


def test_runs_are_found_by_lists_of_ids(ada: MlflowClient, project: Project, runs: dict[str, str]) -> None:
    two = [run_id for run_id, name in runs.items() if name in "ab"]
    listed = ", ".join(f"'{run_id}'" for run_id in two)
    names = {runs[r.info.run_id] for r in ada.search_runs([str(project.id)], f"run_id IN ({listed})")}
    others = {
        runs[r.info.run_id]
        for r in ada.search_runs([str(project.id)], f"attributes.run_id NOT IN ({listed})")
    }
    assert (names, others) == ({"a", "b"}, {"c", "d"})


def test_orders_put_values_first_then_nan_then_nothing(
    ada: MlflowClient, project: Project, runs: dict[str, str]
) -> None:
    found = {
        clauses: _names(runs, ada.search_runs([str(project.id)], order_by=list(clauses)))
        for clauses in ORDERS
    }
    assert found == ORDERS


def test_what_is_no_filter_is_refused(ada: MlflowClient, project: Project) -> None:
    codes = {text: _refusal(ada, project, filter_string=text) for text in NO_FILTERS}
    assert codes == dict.fromkeys(NO_FILTERS, "INVALID_PARAMETER_VALUE")


def test_what_is_no_order_is_refused(ada: MlflowClient, project: Project) -> None:
    codes = {clause: _refusal(ada, project, order_by=[clause]) for clause in NO_ORDERS}
    assert codes == dict.fromkeys(NO_ORDERS, "INVALID_PARAMETER_VALUE")


def test_a_field_is_ordered_by_once(ada: MlflowClient, project: Project) -> None:
    with pytest.raises(MlflowException, match="duplicate fields"):
        ada.search_runs([str(project.id)], order_by=["metrics.a", "metrics.a DESC"])


def test_pages_follow_one_another(ada: MlflowClient, project: Project, runs: dict[str, str]) -> None:
    seen, token = "", None
    while True:
        page = ada.search_runs([str(project.id)], max_results=3, page_token=token)
        seen += "".join(runs[r.info.run_id] for r in page) + "|"
        token = page.token
        if not token:
            break
    assert seen == "dcb|a|"


def test_a_token_that_we_did_not_make_is_refused(ada: MlflowClient, project: Project) -> None:
    codes = {token: _refusal(ada, project, page_token=token) for token in NO_TOKENS}
    assert codes == dict.fromkeys(NO_TOKENS, "INVALID_PARAMETER_VALUE")


def test_a_dataframe_of_runs(ada: MlflowClient, project: Project, runs: dict[str, str]) -> None:
    found = mlflow.search_runs([str(project.id)], filter_string="metrics.loss < 1", output_format="list")
    assert {runs[r.info.run_id] for r in found} == {"a", "b"}


def test_experiments_are_the_projects_that_one_sees(
    server: TrackingServer, project: Project, ada: MlflowClient, login: Callable[[str], MlflowClient]
) -> None:
    other = server.project("ada", "faces", Visibility.PUBLIC)
    by_name = ada.get_experiment_by_name("ada/digits")
    assert by_name is not None and by_name.experiment_id == str(project.id)
    assert ada.get_experiment_by_name("faces").experiment_id == str(other.id)
    assert ada.get_experiment_by_name("ada/nothing") is None
    ada.set_experiment_tag(str(project.id), "team", "vision")
    assert {e.name for e in ada.search_experiments()} == {"ada/digits", "ada/faces"}
    assert [e.name for e in ada.search_experiments(filter_string="tags.team = 'vision'")] == ["ada/digits"]
    assert [e.name for e in ada.search_experiments(filter_string="tags.team IS NULL")] == ["ada/faces"]
    assert [e.name for e in ada.search_experiments(filter_string="name LIKE 'ada/f%'")] == ["ada/faces"]
    assert [e.name for e in ada.search_experiments(order_by=["name DESC"])] == ["ada/faces", "ada/digits"]
    page = ada.search_experiments(max_results=1, order_by=["name"])
    assert [
        e.name for e in ada.search_experiments(max_results=1, order_by=["name"], page_token=page.token)
    ] == ["ada/faces"]
    server.user("bob")
    bob = login("glpat-bob")
    assert {e.name for e in bob.search_experiments()} == {"ada/faces"}


def test_an_experiment_is_a_project(ada: MlflowClient, project: Project) -> None:
    with pytest.raises(MlflowException) as caught:
        ada.create_experiment("no-such-project")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert ada.create_experiment("ada/digits") == str(project.id)
    with pytest.raises(MlflowException) as caught:
        ada.create_experiment("ada/digits")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    for change in (ada.delete_experiment, ada.restore_experiment, lambda e: ada.rename_experiment(e, "x")):
        with pytest.raises(MlflowException) as caught:
            change(str(project.id))
        assert caught.value.error_code == "PERMISSION_DENIED"
    ada.set_experiment_tag(str(project.id), "a", "1")
    ada.delete_experiment_tag(str(project.id), "a")
    assert ada.get_experiment(str(project.id)).tags == {}


def test_thousands_of_runs_are_listed_and_searched_quickly(
    server: TrackingServer, ada: MlflowClient, project: Project, run_id: str
) -> None:
    """5,000 runs with 10 parameters, 5 tags and 10 metrics each; 500 of them in under 0.1 s of the server's time."""
    _fill(server, project.id, 5000)
    assert _seconds(server, project, "", []) < LIMIT_S
    assert _seconds(server, project, "metrics.m3 > 0.5 AND params.p4 = '7'", []) < LIMIT_S
    assert _seconds(server, project, "tags.t1 LIKE 'v1%'", ["metrics.m1 DESC"]) < LIMIT_S
    page = ada.search_runs(
        [str(project.id)], "metrics.m3 > 0.5", order_by=["metrics.m3 DESC"], max_results=500
    )
    values = [r.data.metrics["m3"] for r in page]
    assert len(values) == 500 and values == sorted(values, reverse=True) and min(values) > 0.5
    assert len(page[0].data.params) == 10 and len(page[0].data.metrics) == 10


def _names(runs: dict[str, str], found: Iterable[Run]) -> str:
    return "".join(runs[run.info.run_id] for run in found)


def _refusal(client: MlflowClient, project: Project, **search: Any) -> str | None:
    """The error code of a search; None where it was answered."""
    try:
        client.search_runs([str(project.id)], **search)
    except MlflowException as error:
        return error.error_code
    return None


def _seconds(server: TrackingServer, project: Project, text: str, order_by: list[str]) -> float:
    """The best of some requests for 500 runs, without the client's own parsing; a busy machine gets more tries."""
    import httpx

    body = {"experiment_ids": [str(project.id)], "max_results": 500, "filter": text, "order_by": order_by}
    best, deadline = math.inf, time.monotonic() + 15
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer glpat-ada"}) as client:
        while best >= LIMIT_S and time.monotonic() < deadline:
            began = time.perf_counter()
            answer = client.post("/api/2.0/mlflow/runs/search", json=body)
            best = min(best, time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
    return best


def _fill(server: TrackingServer, project_id: int, count: int) -> None:
    server.query(
        "INSERT INTO tracking_run (run_id, experiment_id, name, user_name, status, start_time_ms)"
        " SELECT md5(i::text), %s, 'run ' || i, 'ada', 3, i FROM generate_series(1, %s) i",
        project_id,
        count,
    )
    for table, letter, width in (("tracking_param", "p", 10), ("tracking_tag", "t", 5)):
        server.query(
            f"INSERT INTO {table} (run, key, value)"
            f" SELECT r.id, '{letter}' || k, CASE WHEN '{letter}' = 'p' THEN ((r.id * k) %% 11)::text"
            f" ELSE 'v' || r.id END FROM tracking_run r, generate_series(1, {width}) k WHERE r.name LIKE 'run %%'"
        )
    server.query("INSERT INTO tracking_metric_key (name) SELECT 'm' || k FROM generate_series(1, 10) k")
    server.query(
        "INSERT INTO tracking_latest_metric (run, key, step, timestamp_ms, value)"
        " SELECT r.id, k.id, 1, 1, random() FROM tracking_run r, tracking_metric_key k WHERE r.name LIKE 'run %%'"
    )
    server.query("ANALYZE")
