"""An experiment from submission to its end, with GitLab and its runner played by the test."""

from __future__ import annotations

import json
from typing import Any

import httpx

from nautilus.core.states import JobState
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.testing.experiments import closed, reached, submit, taken
from nautilus.testing.management import RunningManagement


async def test_an_experiment_runs_on_the_pinned_commit_and_follows_its_job(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project, seed=7, name="first")
    assert (experiment["state"], experiment["name"]) == ("queued", "first")
    stored = gitlab.projects[project["id"]]
    assert experiment["commit_sha"] == stored.branches["main"]

    job = await taken(gitlab)
    assert job.user.username == "ada"
    assert job.job.ref == f"nautilus/run-{experiment['id']}"
    assert job.script["script"] == ["python train.py --lr 0.1"]
    assert job.script["variables"]["NAUTILUS_COMMIT"] == experiment["commit_sha"]
    assert job.script["variables"]["NAUTILUS_SEED"] == "7"
    running = await reached(ada, experiment["id"], "running")
    assert running["started_at"] and running["job_url"] == job.job.web_url

    gitlab.append_trace(job.job.id, b"epoch 1\n")
    gitlab.upload_artifacts(
        job.job.id, {"metrics.jsonl": b'{"key": "acc", "value": 0.5}\n{"key": "acc", "value": 0.9}\n'}
    )
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    done = await reached(ada, experiment["id"], "succeeded")
    assert done["metrics"] == {"acc": 0.9}
    assert done["reason"] is None and done["duration_s"] is not None
    curve = (await ada.get(f"/api/v1/experiments/{experiment['id']}/metrics/acc")).json()
    assert [(point["step"], point["value"]) for point in curve] == [(0, 0.5), (1, 0.9)]
    log = await ada.get(f"/api/v1/experiments/{experiment['id']}/log?offset=6")
    assert (log.text, log.headers["x-log-size"], log.headers["x-log-complete"]) == ("1\n", "8", "true")
    await closed(management, gitlab, experiment["id"])
    assert list(stored.branches) == ["main"]
    assert stored.branches["main"] == experiment["commit_sha"]


async def test_a_failed_job_is_a_failed_experiment_that_says_why(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    gitlab.append_trace(job.job.id, b"Traceback ...\nERROR: Job failed: exit code 3\n")
    gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="script_failure")
    assert (await reached(ada, experiment["id"], "failed"))["reason"] == "the command ended with exit code 3"


async def test_a_sweep_is_one_experiment_per_combination_and_sorts_by_its_metric(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    found = await submit(ada, project, params={}, sweep={"lr": [0.1, 0.2], "depth": [1, 2]})
    assert [e["params"] for e in found] == [
        {"lr": 0.1, "depth": 1},
        {"lr": 0.1, "depth": 2},
        {"lr": 0.2, "depth": 1},
        {"lr": 0.2, "depth": 2},
    ]
    assert len({e["sweep_id"] for e in found}) == 1 and found[0]["sweep_id"]
    for _ in found:
        job = await taken(gitlab)
        number = int(job.script["variables"]["NAUTILUS_EXPERIMENT_ID"])
        line = json.dumps({"key": "loss", "value": (number * 7) % 5}).encode()
        gitlab.upload_artifacts(job.job.id, {"outputs/metrics.jsonl": line})
        gitlab.finish_job(job.job.id, JobState.SUCCESS)
    for experiment in found:
        await reached(ada, experiment["id"], "succeeded")
    query = {"sweep": found[0]["sweep_id"], "order_by": "metrics.loss", "sort": "asc", "per_page": 3}
    page = await ada.get("/api/v1/experiments", params=query)
    losses = [e["metrics"]["loss"] for e in page.json()]
    assert losses == sorted(losses) and len(losses) == 3
    assert (page.headers["x-total"], page.headers["x-next-page"]) == ("4", "2")
    by_param = await ada.get("/api/v1/experiments", params={"order_by": "params.lr", "sort": "desc"})
    assert [e["params"]["lr"] for e in by_param.json()] == [0.2, 0.2, 0.1, 0.1]
