"""MLflow 3's logged models."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from nautilus.gitlab.port import Project
from nautilus.testing.tracking_server import SubmittedJob, TrackingServer


def test_a_model_is_made_filled_and_finalized(ada: MlflowClient, project: Project, run_id: str) -> None:
    model = ada.create_logged_model(
        str(project.id),
        name="tree",
        source_run_id=run_id,
        params={"depth": "3"},
        tags={"a": "b"},
        model_type="sklearn",
    )
    assert (model.status, model.name, model.source_run_id) == (LoggedModelStatus.PENDING, "tree", run_id)
    assert model.artifact_location == f"mlflow-artifacts:/{project.id}/models/{model.model_id}/artifacts"
    ada.log_model_params(model.model_id, {"leaves": "8"})
    ada.set_logged_model_tags(model.model_id, {"stage": "trial", "a": "c"})
    ada.delete_logged_model_tag(model.model_id, "stage")
    ready = ada.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    assert ready.status == LoggedModelStatus.READY
    found = ada.get_logged_model(model.model_id)
    assert (found.params, found.tags, found.model_type) == (
        {"depth": "3", "leaves": "8"},
        {"a": "c"},
        "sklearn",
    )


def test_a_models_files_lie_in_its_own_folder(
    server: TrackingServer, ada: MlflowClient, project: Project
) -> None:
    model = ada.create_logged_model(str(project.id), name="net")
    folder = server.home / "weights"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "data" / "w.bin").write_bytes(b"\x00" * 5000)
    ada.log_model_artifacts(model.model_id, str(folder))
    assert [a.path for a in ada.list_logged_model_artifacts(model.model_id)] == ["MLmodel", "data"]
    assert [a.path for a in ada.list_logged_model_artifacts(model.model_id, "data")] == ["data/w.bin"]
    local = mlflow.artifacts.download_artifacts(f"{model.artifact_location}/data/w.bin")
    assert Path(local).stat().st_size == 5000


def test_models_are_searched(ada: MlflowClient, project: Project, run_id: str) -> None:
    ids = {}
    for name, loss, depth in (("a", 0.5, "1"), ("b", 0.25, "2"), ("c", None, "3")):
        model = ada.create_logged_model(str(project.id), name=name, params={"depth": depth}, tags={"n": name})
        ids[name] = model.model_id
        if loss is not None:
            ada.log_metric(
                run_id, "loss", loss, model_id=model.model_id, dataset_name="digits", dataset_digest="x"
            )
            ada.log_batch(run_id, metrics=[Metric("acc", 1 - loss, 1, 0, model_id=model.model_id)])
    ada.finalize_logged_model(ids["a"], LoggedModelStatus.READY)

    def names(text: str | None = None, **more: object) -> str:
        return "".join(
            m.name for m in ada.search_logged_models([str(project.id)], filter_string=text, **more)
        )

    assert names() == "cba"
    assert names("params.depth = '2'") == "b"
    assert names("metrics.loss < 0.4") == "b"
    assert names("tags.n != 'b'") == "ca"
    assert names("name = 'a' AND status = 'READY'") == "a"
    assert names("metrics.loss < 1", datasets=[{"dataset_name": "digits"}]) == "ba"
    assert names("metrics.acc < 1", datasets=[{"dataset_name": "digits"}]) == ""
    assert names(order_by=[{"field_name": "metrics.loss", "ascending": True}]) == "bac"
    assert names(order_by=[{"field_name": "name", "ascending": False}]) == "cba"
    page = ada.search_logged_models([str(project.id)], max_results=2)
    assert [
        m.name for m in ada.search_logged_models([str(project.id)], max_results=2, page_token=page.token)
    ] == ["a"]
    assert {m.key: m.value for m in ada.get_logged_model(ids["b"]).metrics} == {"loss": 0.25, "acc": 0.75}
    with pytest.raises(MlflowException) as caught:
        names("foo.x = 'y'")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_deleted_model_is_gone(ada: MlflowClient, project: Project) -> None:
    model = ada.create_logged_model(str(project.id), name="old")
    ada.delete_logged_model(model.model_id)
    with pytest.raises(MlflowException) as caught:
        ada.get_logged_model(model.model_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    assert list(ada.search_logged_models([str(project.id)])) == []


def test_runs_know_their_models(ada: MlflowClient, project: Project, run_id: str) -> None:
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    taken = ada.create_logged_model(str(project.id), name="taken")
    given = ada.create_logged_model(str(project.id), name="given", source_run_id=run_id)
    ada.log_inputs(run_id, models=[LoggedModelInput(taken.model_id)])
    ada.log_outputs(run_id, models=[LoggedModelOutput(given.model_id, step=4)])
    run = ada.get_run(run_id)
    assert [m.model_id for m in run.inputs.model_inputs] == [taken.model_id]
    assert [(m.model_id, m.step) for m in run.outputs.model_outputs] == [(given.model_id, 4)]
    (found,) = ada.search_runs([str(project.id)])
    assert [m.model_id for m in found.outputs.model_outputs] == [given.model_id]


def test_a_jobs_model_belongs_to_its_run(login: object, job: SubmittedJob, project: Project) -> None:
    client: MlflowClient = login(job.token)  # type: ignore[operator]
    model = client.create_logged_model(str(project.id), name="mine")
    assert model.source_run_id == job.run_id
    client.finalize_logged_model(model.model_id, "READY")
    assert client.get_logged_model(model.model_id).status == LoggedModelStatus.READY


def test_bad_names_are_refused(ada: MlflowClient, project: Project) -> None:
    for name in ("a/b", "a:b", "a.b", "a%b", 'a"b', "a'b"):
        with pytest.raises(MlflowException):
            ada.create_logged_model(str(project.id), name=name)
