"""What `/-/health` says of the bundled runner, from its status file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nautilus.health.probes import RUNNER_SILENT_AFTER_S, Component, ComponentState, runner_component


def written(folder: Path, *, age_s: float = 0.0, **status: object) -> Path:
    path = folder / "status.json"
    path.write_text(json.dumps({"updated_at": time.time() - age_s, **status}))
    return path


def test_one_that_answers_is_ready(tmp_path: Path) -> None:
    path = written(tmp_path, state="ready", executors=["docker", "process"])
    assert runner_component(path) == Component("runner", ComponentState.READY, "executor docker, process")


@pytest.mark.parametrize("state", ["draining", "full"])
def test_one_that_takes_no_jobs_works_and_says_why(tmp_path: Path, state: str) -> None:
    path = written(tmp_path, state=state, reason="disk: 951 MiB are free")
    expected = Component("runner", ComponentState.READY, "takes no jobs: disk: 951 MiB are free")
    assert runner_component(path) == expected


@pytest.mark.parametrize("state", ["connecting", "stopping"])
def test_one_that_has_no_server_waits(tmp_path: Path, state: str) -> None:
    path = written(tmp_path, state=state, reason="bundled: connection refused")
    assert runner_component(path) == Component(
        "runner", ComponentState.WAITING, "bundled: connection refused"
    )


def test_one_that_says_nothing_is_down(tmp_path: Path) -> None:
    silent = runner_component(written(tmp_path, state="ready", age_s=RUNNER_SILENT_AFTER_S + 5))
    assert silent.state is ComponentState.DOWN
    assert runner_component(tmp_path / "none").state is ComponentState.STARTING
