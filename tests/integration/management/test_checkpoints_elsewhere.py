"""A run that moves from machine to machine, with nothing played: forge, management, two runners as processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from nautilus.testing.experiments import reached
from nautilus.testing.gitlab_worlds import ServerWorld
from nautilus.testing.management import eventually

if TYPE_CHECKING:
    from nautilus_runner.testing.running import RunnerProcess

pytestmark = pytest.mark.drill

WORK = (
    'mkdir -p "$NAUTILUS_CHECKPOINT_DIR"; cd "$NAUTILUS_CHECKPOINT_DIR"; step=$(cat step || echo 0); '
    "trap 'echo $((step + 1)) > step; exit 0' TERM; echo begins at step $step; "
    "[ $step = 2 ] && exit 0; while :; do sleep 0.05; done"
)


async def begun(user: httpx.AsyncClient, experiment: dict[str, Any], step: int) -> None:
    async def has_begun() -> bool:
        log = await user.get(f"/api/v1/experiments/{experiment['id']}/log")
        return f"begins at step {step}" in log.text

    await eventually(has_begun, f"step {step}")


async def test_a_run_goes_on_where_it_was_on_another_machine_and_on_the_same(
    forge: ServerWorld, user: httpx.AsyncClient, machine: Callable[[], RunnerProcess]
) -> None:
    project = (await user.post("/api/v1/projects", json={"name": "moving", "template": "digits"})).json()
    body = {"project": project["id"], "command": WORK, "resources": {"runner_tags": [forge.tag]}}
    [experiment] = (await user.post("/api/v1/experiments", json=body)).json()["experiments"]
    first = machine()
    await begun(user, experiment, 0)
    drain = [
        sys.executable,
        "-m",
        "nautilus_runner",
        "drain",
        "--preempt",
        "--wait",
        "--config",
        str(first.config),
    ]
    done = await asyncio.to_thread(subprocess.run, drain, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    machine()
    await begun(user, experiment, 1)
    answer = await user.post(f"/api/v1/experiments/{experiment['id']}/preempt")
    assert answer.status_code == 200, answer.text
    finished = await reached(user, experiment["id"], "succeeded")
    assert finished["mlflow_run_id"] == experiment["mlflow_run_id"]
    attempts = (await user.get(f"/api/v1/experiments/{experiment['id']}/attempts")).json()
    assert [(a["state"], a["source"]) for a in attempts] == [
        ("failed", "platform"),
        ("canceled", None),
        ("succeeded", None),
    ]
    assert attempts[0]["reason"] == "the runner was interrupted"
    left = await user.get(
        "/api/2.0/mlflow/artifacts/list", params={"run_id": experiment["mlflow_run_id"], "path": "checkpoint"}
    )
    assert [f for f in left.json().get("files", []) if not f["is_dir"]] == []
