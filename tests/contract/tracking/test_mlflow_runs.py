"""Runs, parameters, tags and metrics as MLflow's client sees them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from nautilus.gitlab.port import Project
from nautilus.testing.tracking_server import SubmittedJob, TrackingServer


def test_a_run_has_what_mlflow_promises(ada: MlflowClient, project: Project) -> None:
    run = ada.create_run(str(project.id), start_time=123, tags={"a": "b"}, run_name="first")
    info = ada.get_run(run.info.run_id).info
    assert (info.run_name, info.status, info.start_time, info.end_time) == ("first", "RUNNING", 123, None)
    assert info.artifact_uri == f"mlflow-artifacts:/{project.id}/{info.run_id}/artifacts"
    assert (info.lifecycle_stage, info.user_id, len(info.run_id)) == ("active", "ada", 32)
    assert run.data.tags == {"a": "b", "mlflow.runName": "first"}


def test_a_run_without_a_name_gets_one(ada: MlflowClient, project: Project) -> None:
    assert ada.create_run(str(project.id)).info.run_name


def test_a_name_may_come_as_tag_but_not_as_two_names(ada: MlflowClient, project: Project) -> None:
    assert ada.create_run(str(project.id), tags={"mlflow.runName": "tagged"}).info.run_name == "tagged"
    with pytest.raises(MlflowException, match="different values") as caught:
        ada.create_run(str(project.id), tags={"mlflow.runName": "one"}, run_name="two")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_update_run_renames_and_ends_it(ada: MlflowClient, run_id: str) -> None:
    ada.update_run(run_id, name="renamed")
    ada.set_terminated(run_id, "FAILED", end_time=999)
    run = ada.get_run(run_id)
    assert (run.info.run_name, run.info.status, run.info.end_time) == ("renamed", "FAILED", 999)
    assert run.data.tags["mlflow.runName"] == "renamed"


def test_the_name_tag_renames_the_run(ada: MlflowClient, run_id: str) -> None:
    ada.set_tag(run_id, "mlflow.runName", "by tag")
    assert ada.get_run(run_id).info.run_name == "by tag"


def test_a_parameter_never_changes(ada: MlflowClient, run_id: str) -> None:
    ada.log_param(run_id, "lr", 0.1)
    ada.log_param(run_id, "lr", 0.1)
    with pytest.raises(MlflowException, match="Changing param values is not allowed") as caught:
        ada.log_param(run_id, "lr", 0.2)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert ada.get_run(run_id).data.params == {"lr": "0.1"}


def test_a_batch_with_a_changed_parameter_adds_nothing(ada: MlflowClient, run_id: str) -> None:
    ada.log_param(run_id, "lr", 0.1)
    with pytest.raises(MlflowException, match="Params were already logged"):
        ada.log_batch(
            run_id,
            metrics=[Metric("loss", 1.0, 1, 0)],
            params=[Param("new", "1"), Param("lr", "0.2")],
            tags=[RunTag("t", "1")],
        )
    data = ada.get_run(run_id).data
    assert (data.params, data.metrics, "t" in data.tags) == ({"lr": "0.1"}, {}, False)


def test_duplicate_parameters_in_a_batch_are_refused(ada: MlflowClient, run_id: str) -> None:
    with pytest.raises(MlflowException, match="Duplicate parameter keys"):
        ada.log_batch(run_id, params=[Param("a", "1"), Param("a", "1")])


def test_tags_are_replaced_and_deleted(ada: MlflowClient, run_id: str) -> None:
    ada.set_tag(run_id, "k", "1")
    ada.log_batch(run_id, tags=[RunTag("k", "2"), RunTag("k", "3"), RunTag("other", "x")])
    assert ada.get_run(run_id).data.tags["k"] == "3"
    ada.delete_tag(run_id, "k")
    assert "k" not in ada.get_run(run_id).data.tags
    with pytest.raises(MlflowException, match="No tag with name") as caught:
        ada.delete_tag(run_id, "k")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_metric_keeps_its_whole_history(ada: MlflowClient, run_id: str) -> None:
    for step, value in enumerate([0.5, 0.25, 0.125]):
        ada.log_metric(run_id, "loss", value, timestamp=1000 + step, step=step)
    history = ada.get_metric_history(run_id, "loss")
    assert [(m.step, m.value, m.timestamp) for m in history] == [
        (0, 0.5, 1000),
        (1, 0.25, 1001),
        (2, 0.125, 1002),
    ]
    assert ada.get_run(run_id).data.metrics == {"loss": 0.125}


@pytest.mark.parametrize(
    ("points", "latest"),
    [
        ([(1.0, 10, 5), (2.0, 20, 4)], 1.0),  # the greater step wins over the later time
        ([(1.0, 10, 5), (2.0, 11, 5)], 2.0),  # then the later time
        ([(1.0, 10, 5), (0.5, 10, 5)], 1.0),  # then the greater value
        ([(1.0, 10, -3), (2.0, 10, -4)], 1.0),  # steps may be negative
    ],
)
def test_the_latest_value_is_mlflows(
    ada: MlflowClient, run_id: str, points: list[tuple[float, int, int]], latest: float
) -> None:
    for ordered in (points, points[::-1]):
        key = f"m{ordered is points}"
        ada.log_batch(run_id, metrics=[Metric(key, value, at, step) for value, at, step in ordered])
        assert ada.get_run(run_id).data.metrics[key] == latest
        for value, at, step in ordered:
            ada.log_metric(run_id, key + "-single", value, timestamp=at, step=step)
        assert ada.get_run(run_id).data.metrics[key + "-single"] == latest


def test_nan_and_infinities_come_back_as_they_were(ada: MlflowClient, run_id: str) -> None:
    for step, value in enumerate([math.nan, math.inf, -math.inf]):
        ada.log_metric(run_id, "odd", value, timestamp=step, step=step)
    values = [m.value for m in ada.get_metric_history(run_id, "odd")]
    assert math.isnan(values[0]) and values[1:] == [math.inf, -math.inf]
    ada.log_metric(run_id, "nan", math.nan)
    assert math.isnan(ada.get_run(run_id).data.metrics["nan"])


def test_a_repeated_request_changes_nothing(ada: MlflowClient, run_id: str) -> None:
    batch = [Metric("loss", float(i), 1000 + i, i) for i in range(100)]
    for _ in range(3):
        ada.log_batch(run_id, metrics=batch)
        ada.log_metric(run_id, "loss", 5.0, timestamp=1005, step=5)
    assert len(ada.get_metric_history(run_id, "loss")) == 100


def test_points_without_steps_are_all_kept(ada: MlflowClient, run_id: str) -> None:
    ada.log_batch(run_id, metrics=[Metric("loss", float(i % 7), 1000 + i, 0) for i in range(500)])
    assert len(ada.get_metric_history(run_id, "loss")) == 500


def test_a_thousand_metrics_in_one_batch(ada: MlflowClient, run_id: str) -> None:
    ada.log_batch(run_id, metrics=[Metric(f"layer{i}/norm", float(i), 1, i) for i in range(1000)])
    assert len(ada.get_run(run_id).data.metrics) == 1000


def test_asynchronous_logging_arrives(
    login: Callable[[str], MlflowClient], job: SubmittedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(job.token)
    monkeypatch.setenv("MLFLOW_RUN_ID", job.run_id)
    with mlflow.start_run():
        for step in range(200):
            mlflow.log_metric("loss", step, step=step, synchronous=False)
        mlflow.log_params({"a": 1}, synchronous=False).wait()
    mlflow.flush_async_logging()
    assert len(client.get_metric_history(job.run_id, "loss")) == 200


def test_deleted_runs_take_nothing_and_come_back(ada: MlflowClient, run_id: str, project: Project) -> None:
    ada.log_metric(run_id, "loss", 1.0)
    ada.delete_run(run_id)
    assert ada.get_run(run_id).info.lifecycle_stage == "deleted"
    for write in (
        lambda: ada.log_metric(run_id, "loss", 2.0),
        lambda: ada.log_batch(run_id, metrics=[Metric("loss", 2.0, 1, 1)]),
        lambda: ada.log_param(run_id, "a", 1),
        lambda: ada.set_tag(run_id, "a", 1),
        lambda: ada.update_run(run_id, status="FINISHED"),
    ):
        with pytest.raises(MlflowException, match="must be in the 'active' state") as caught:
            write()
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert ada.search_runs([str(project.id)]) == []
    assert len(ada.search_runs([str(project.id)], run_view_type=ViewType.DELETED_ONLY)) == 1
    ada.restore_run(run_id)
    ada.log_metric(run_id, "loss", 2.0)
    assert [m.value for m in ada.get_metric_history(run_id, "loss")] == [1.0, 2.0]


def test_history_comes_in_pages(ada: MlflowClient, run_id: str, server: TrackingServer) -> None:
    ada.log_batch(run_id, metrics=[Metric("loss", float(i), i, i) for i in range(10)])
    store = ada._tracking_client.store
    first = store.get_metric_history(run_id, "loss", max_results=4)
    second = store.get_metric_history(run_id, "loss", max_results=4, page_token=first.token)
    third = store.get_metric_history(run_id, "loss", max_results=4, page_token=second.token)
    assert [[m.step for m in page] for page in (first, second, third)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert third.token is None


def test_unknown_things_do_not_exist(ada: MlflowClient) -> None:
    for call in (
        lambda: ada.get_run("0" * 32),
        lambda: ada.log_metric("0" * 32, "a", 1),
        lambda: ada.get_experiment("424242"),
        lambda: ada.get_logged_model("m-" + "0" * 32),
    ):
        with pytest.raises(MlflowException) as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_datasets_are_inputs_once(ada: MlflowClient, run_id: str, project: Project) -> None:
    dataset = Dataset("digits", "abc", "local", '{"uri": "/data"}', schema="[]", profile='{"rows": 1797}')
    for _ in range(2):
        ada.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    (found,) = ada.get_run(run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest, found.dataset.profile) == (
        "digits",
        "abc",
        '{"rows": 1797}',
    )
    assert {tag.key: tag.value for tag in found.tags} == {"mlflow.data.context": "train"}
    (run,) = ada.search_runs([str(project.id)], "dataset.name = 'digits' AND dataset.context = 'train'")
    assert run.info.run_id == run_id
    assert ada.search_runs([str(project.id)], "dataset.digest = 'other'") == []


def test_a_submitted_run_is_scheduled_with_its_parameters(
    server: TrackingServer, project: Project, ada: MlflowClient
) -> None:
    job = server.submit(project, "ada", lr=0.1, layers=3, name="résumé")
    run = ada.get_run(job.run_id)
    assert run.info.status == "SCHEDULED"
    assert run.data.params == {"lr": "0.1", "layers": "3", "name": "résumé"}
    assert abs(run.info.start_time - time.time() * 1000) < 60_000
