"""One push, one pipeline, one job: from commit to log and artifacts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from gitlab.v4.objects import Project

from nautilus_forge.testing.runner import FakeRunner

TRAIN = """
train:
  script: [python train.py]
  artifacts:
    paths: [model/]
"""


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_push_makes_a_pipeline_whose_job_runs_to_success(
    project: Project, push: Callable[..., Any], runner: FakeRunner
) -> None:
    pipeline = push(TRAIN)
    assert (pipeline.status, pipeline.source, pipeline.ref) == ("pending", "push", "main")

    job = runner.take_one()
    assert job.payload["steps"][0]["script"] == ["python train.py"]
    assert job.payload["git_info"]["sha"] == pipeline.sha
    assert job.variable("CI_COMMIT_SHA") == pipeline.sha
    assert project.jobs.get(job.id).status == "running"

    assert job.patch(b"epoch 1\n").headers["range"] == "0-8"
    assert job.patch(b"epoch 2\n").headers["job-status"] == "running"
    assert job.upload(archive(**{"model/weights.txt": "1 2 3"})).status_code == 201
    assert job.finish().status_code == 200

    finished = project.jobs.get(job.id)
    assert (finished.status, finished.artifacts_file["filename"]) == ("success", "artifacts.zip")
    assert finished.trace() == b"epoch 1\nepoch 2\n"
    assert finished.artifact("model/weights.txt") == b"1 2 3"
    with zipfile.ZipFile(io.BytesIO(finished.artifacts())) as fetched:
        assert fetched.namelist() == ["model/weights.txt"]
    assert project.pipelines.get(pipeline.id).status == "success"
