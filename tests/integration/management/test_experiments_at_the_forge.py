"""Management against the real forge, with a runner that speaks the runner protocol: the whole path, no
fake."""

from __future__ import annotations

from typing import Any

import httpx

from nautilus.core.states import JobState
from nautilus.testing.experiments import reached
from nautilus.testing.gitlab_worlds import ServerWorld


async def digits(user: httpx.AsyncClient) -> dict[str, Any]:
    answer = await user.post("/api/v1/projects", json={"name": "digits", "template": "digits"})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_sweep_runs_and_logs_with_its_job_tokens(forge: ServerWorld, user: httpx.AsyncClient) -> None:
    project = await digits(user)
    answer = await user.post(
        "/api/v1/experiments",
        json={
            "project": project["id"],
            "command": "python train.py --hidden {hidden}",
            "sweep": {"hidden": [8, 16, 32]},
            "resources": {"runner_tags": [forge.tag]},
        },
    )
    assert answer.status_code == 201, answer.text
    sweep = {e["id"]: e for e in answer.json()["experiments"]}
    for _ in sweep:
        job = await forge.take_job()
        command = job.script[-1]
        [experiment] = [e for e in sweep.values() if command.endswith(f" {e['params']['hidden']}")]
        await forge.append_trace(job, b"$ python train.py\nepoch 1\n", 0)
        async with httpx.AsyncClient(
            base_url=user.base_url, headers={"Authorization": f"Bearer {job.token}"}
        ) as script:
            point = {
                "run_id": experiment["mlflow_run_id"],
                "key": "acc",
                "value": 0.5,
                "step": 1,
                "timestamp": 1,
            }
            logged = await script.post("/api/2.0/mlflow/runs/log-metric", json=point)
            assert logged.status_code == 200, logged.text
            refused = await script.get(f"/api/v1/experiments/{experiment['id']}")
            assert refused.status_code == 403
        await forge.upload_artifacts(
            job, {"outputs/model.bin": b"x", "metrics.jsonl": b'{"key": "f1", "value": 1}'}
        )
        await forge.finish(job, JobState.SUCCESS)
        done = await reached(user, experiment["id"], "succeeded")
        assert done["metrics"] == {"acc": 0.5, "f1": 1.0}
        log = await user.get(f"/api/v1/experiments/{experiment['id']}/log")
        assert log.text.endswith("epoch 1\n") and log.headers["x-log-complete"] == "true"
        artifacts = (await user.get(f"/api/v1/experiments/{experiment['id']}/artifacts")).json()
        assert [a["source"] for a in artifacts] == ["job"]


async def test_a_job_that_fails_says_its_exit_code(forge: ServerWorld, user: httpx.AsyncClient) -> None:
    project = await digits(user)
    body = {"project": project["id"], "command": "false", "resources": {"runner_tags": [forge.tag]}}
    [experiment] = (await user.post("/api/v1/experiments", json=body)).json()["experiments"]
    job = await forge.take_job()
    await forge.append_trace(job, b"x\nERROR: Job failed: exit code 4\n", 0)
    await forge.finish(job, JobState.FAILED, "script_failure")
    failed = await reached(user, experiment["id"], "failed")
    assert failed["reason"].startswith("the command ended with exit code")


async def test_a_waiting_one_is_cancelled(forge: ServerWorld, user: httpx.AsyncClient) -> None:
    project = await digits(user)
    body = {"project": project["id"], "command": "sleep 60", "resources": {"runner_tags": ["nobody-has-it"]}}
    [experiment] = (await user.post("/api/v1/experiments", json=body)).json()["experiments"]
    await user.post(f"/api/v1/experiments/{experiment['id']}/cancel")
    await reached(user, experiment["id"], "canceled")
