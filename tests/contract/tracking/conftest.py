"""MLflow's own client against the tracking endpoints: real HTTP, real PostgreSQL, a fake GitLab for identities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.tracking import fluent

from nautilus.gitlab.port import Project
from nautilus.testing.tracking_server import SubmittedJob, TrackingServer, tracking_server


@pytest.fixture
def server(management_database_url: str, tmp_path: Path) -> Iterator[TrackingServer]:
    with tracking_server(management_database_url, tmp_path / "home") as running:
        yield running


@pytest.fixture
def project(server: TrackingServer) -> Project:
    """Ada's private project `ada/digits`."""
    return server.project("ada", "digits")


@pytest.fixture
def job(server: TrackingServer, project: Project) -> SubmittedJob:
    """An experiment of Ada's whose job runs."""
    return server.submit(project, "ada", lr=0.1)


@pytest.fixture
def login(server: TrackingServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], MlflowClient]]:
    """`login(token)` is a client that sends this token, and what `mlflow.…` functions use from then on."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    mlflow.set_tracking_uri(server.url)

    def log_in(token: str) -> MlflowClient:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        return MlflowClient(tracking_uri=server.url)

    yield log_in
    while mlflow.active_run() is not None:
        mlflow.end_run()
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)


@pytest.fixture
def ada(login: Callable[[str], MlflowClient], project: Project) -> MlflowClient:
    """The client with the token of the project's owner."""
    return login("glpat-ada")


@pytest.fixture
def run_id(ada: MlflowClient, project: Project) -> str:
    """A run that Ada made from her own machine."""
    return str(ada.create_run(str(project.id)).info.run_id)
