"""The generated CI file: valid, complete, and what it carries arrives in the job byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from ruamel.yaml import YAML

from nautilus.core.ci_file import RunSpec, ci_file, commit_message, run_trailer
from nautilus.core.params import Params
from nautilus.experiments.schemas import Resources
from nautilus_runner.gpus.wish import wish_of

SPEC = RunSpec(
    experiment_id=12,
    run_id="0123456789abcdef0123456789abcdef",
    project_id=3,
    commit_sha="c" * 40,
    url="http://nautilus.test",
    command="python train.py --lr {lr}",
    params={"lr": 0.1},
    env={},
)


def job_of(spec: RunSpec) -> dict[str, Any]:
    """As a YAML reader sees it."""
    return dict(YAML(typ="safe").load(ci_file(spec))["experiment"])


def test_the_job_knows_its_run_and_carries_no_secret() -> None:
    variables = job_of(replace(SPEC, seed=7))["variables"]
    assert variables == {
        "MLFLOW_TRACKING_URI": "http://nautilus.test",
        "MLFLOW_TRACKING_TOKEN": "$CI_JOB_TOKEN",
        "MLFLOW_RUN_ID": SPEC.run_id,
        "MLFLOW_EXPERIMENT_ID": "3",
        "NAUTILUS_URL": "http://nautilus.test",
        "NAUTILUS_EXPERIMENT_ID": "12",
        "NAUTILUS_COMMIT": "c" * 40,
        "NAUTILUS_SEED": "7",
    }


def test_only_what_was_asked_for_is_in_it() -> None:
    plain = job_of(SPEC)
    assert not {"image", "timeout", "tags"} & plain.keys()
    assert plain["artifacts"] == {
        "paths": ["outputs/", "metrics.jsonl"],
        "when": "always",
        "expire_in": "never",
    }
    rich = job_of(
        replace(SPEC, image="python:3.12", time_limit_s=90, runner_tags=["gpu"], artifact_paths=["model.pt"])
    )
    assert (rich["image"], rich["timeout"], rich["tags"]) == ("python:3.12", "90 seconds", ["gpu"])
    assert rich["artifacts"]["paths"] == ["model.pt", "metrics.jsonl"]


def test_what_is_asked_of_gpus_reaches_the_runner_by_its_variables() -> None:
    wish = {"gpus": 2, "gpu_memory": "16GiB", "gpu_model": "A100, H100"}
    variables = job_of(replace(SPEC, wishes=wish))["variables"]
    assert {name: value for name, value in variables.items() if "GPU" in name} == {
        "NAUTILUS_GPUS": "2",
        "NAUTILUS_GPU_MEMORY": "16GiB",
        "NAUTILUS_GPU_MODEL": "A100, H100",
    }
    assert not any("GPU" in name for name in job_of(SPEC)["variables"])


def test_what_a_run_may_use_reaches_the_runner_by_its_variables() -> None:
    variables = job_of(replace(SPEC, wishes={"cpus": 0.5, "memory": "16GiB", "disk": "50GB"}))["variables"]
    asked = {name: variables.get(f"NAUTILUS_{name}") for name in ("CPUS", "MEMORY", "DISK", "SHM")}
    assert asked == {"CPUS": "0.5", "MEMORY": "16GiB", "DISK": "50GB", "SHM": None}


def test_environment_variables_are_not_expanded_by_gitlab() -> None:
    env = {"GREETING": "$HOME ${CI_JOB_TOKEN} 'x'\n\u2028"}
    assert job_of(replace(SPEC, env=env))["variables"]["GREETING"] == {
        "value": env["GREETING"],
        "expand": False,
    }


def test_the_message_names_the_run_and_none_of_the_users_words() -> None:
    message = commit_message(SPEC)
    assert run_trailer(SPEC.run_id) in message and "train" not in message


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(max_examples=80, deadline=None)
@given(value=TEXT, env=TEXT)
def test_any_text_is_read_back_from_the_yaml_as_it_was(value: str, env: str) -> None:
    job = job_of(replace(SPEC, command="run '" + value.replace("'", "") + "'", params={}, env={"E": env}))
    assert job["script"] == ["run '" + value.replace("'", "") + "'"]
    assert job["variables"]["E"]["value"] == env


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize(
    "value",
    ["'\"\\$(touch owned)`id`", "NAUTILUS_END\n$x\n", "🎛 ünï\u2028\x85", "$[[ inputs.x ]]", "x" * 65536],
)
def test_the_parameters_arrive_in_their_file(tmp_path: Path, shell: str, value: str) -> None:
    params: Params = {"text": value, "lr": 0.1, "on": True, "n": 3}
    job = job_of(replace(SPEC, command='cat "$NAUTILUS_PARAMS"', params=params))
    script = "set -e\n" + "\n".join([*job["before_script"], *job["script"]])
    done = subprocess.run([shell], input=script.encode(), capture_output=True, cwd=tmp_path, check=True)
    assert json.loads(done.stdout) == params
    assert os.listdir(tmp_path) == [".nautilus"]


@given(
    st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,3})? ?([KMGTkmgt]i?[Bb]?)?", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ,._-]{0,30}", fullmatch=True),
    st.integers(0, 1024),
)
def test_what_is_accepted_of_gpus_is_what_the_runner_reads(memory: str, model: str, count: int) -> None:
    asked = {"gpus": count, "gpu_memory": memory, "gpu_model": model}
    try:
        accepted = Resources.model_validate(asked).model_dump(exclude_none=True)
    except ValidationError:
        return
    variables = job_of(replace(SPEC, wishes={name: accepted[name] for name in asked}))["variables"]
    wish = wish_of(variables)
    assert wish.count == count and wish.memory_mib > 0 and wish.model == model.strip()
