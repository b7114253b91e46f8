"""The commands that repeat an experiment survive the shell unchanged."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from typing import Any

from nautilus.experiments.schemas import ExperimentView, ProjectRef, UserRef
from nautilus.web import commands

HOSTILE = "$(rm -rf /) `id` 'single' \"double\" \\ ! é\nnew line"


def experiment(**values: Any) -> ExperimentView:
    fields: dict[str, Any] = {
        "id": 3, "name": "n", "project": ProjectRef(id=1, path_with_namespace="ada/digits"), "state": "queued",
        "reason": None, "ref": "main", "commit_sha": "c" * 40, "command": "true", "params": {}, "metrics": {},
        "image": None, "resources": {}, "retry": {}, "seed": None, "tags": [], "sweep_id": None, "rerun_of": None,
        "user": UserRef(id=1, username="ada"), "created_at": datetime.now(UTC), "started_at": None,
        "finished_at": None, "duration_s": None, "pipeline_id": None, "job_id": None, "job_url": None,
        "mlflow_run_id": "0" * 32, "mlflow_experiment_id": "1", "artifact_uri": "", "url": "",
    }  # fmt: skip
    return ExperimentView(**fields | values)


def words_of(program: str, command: str) -> list[str]:
    """The arguments that a shell gives to `program`."""
    script = f"{program}() {{ printf '%s\\0' \"$@\"; }}\nNAUTILUS_TOKEN=t0ken\n{command}"
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_the_command_line_is_one_command_with_every_value_in_place() -> None:
    made = experiment(
        command=HOSTILE, name=HOSTILE, params={"a": HOSTILE, "lr": 0.1, "on": True}, image="i:1", seed=0,
        resources={"gpus": 2, "gpu_model": "RTX 4090"},
    )  # fmt: skip
    words = words_of("nautilus", commands.nautilus_run(made))
    assert words[:2] == ["run", HOSTILE]
    assert words[2:] == [
        "--project", "ada/digits", "--ref", "c" * 40, "--name", HOSTILE, "--param", f"a={HOSTILE}", "--param", "lr=0.1",
        "--param", "on=true", "--image", "i:1", "--seed", "0", "--gpus", "2", "--gpu-model", "RTX 4090",
    ]  # fmt: skip


def test_the_request_carries_the_same_as_json_and_no_token() -> None:
    made = experiment(command=HOSTILE, params={"a": HOSTILE, "n": [1]}, resources={"time_s": 5}, tags=["t"])
    words = words_of("curl", commands.curl(made, "http://nautilus.test"))
    assert words[:2] == ["--fail-with-body", "http://nautilus.test/api/v1/experiments"]
    assert "Authorization: Bearer t0ken" in words
    assert json.loads(words[words.index("--data") + 1]) == {
        "project": "ada/digits",
        "ref": "c" * 40,
        "command": HOSTILE,
        "name": "n",
        "params": {"a": HOSTILE, "n": [1]},
        "resources": {"time_s": 5},
        "tags": ["t"],
    }
