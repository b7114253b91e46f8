"""What a runner logs of its job's use of the machine: read apart from the script's own metrics, and why it ended."""

from __future__ import annotations

import time
from typing import Any

import httpx

from nautilus.core.states import JobState
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.testing.experiments import reached, submit, taken
from nautilus.testing.management import RunningManagement


async def test_usage_is_told_now_and_at_most_and_the_runners_word_is_the_reason(
    ada: httpx.AsyncClient, management: RunningManagement, project: dict[str, Any], gitlab: MemoryGitLab
) -> None:
    [experiment] = await submit(ada, project)
    number, run_id = experiment["id"], experiment["mlflow_run_id"]
    job = await taken(gitlab)
    await reached(ada, number, "running")
    now_ms = int(time.time() * 1000)
    samples = [("loss", 0.5), ("system/cpu_utilization_percentage", 90.0)]
    samples += [("system/cpu_utilization_percentage", 10.0), ("system/system_memory_usage_megabytes", 100.0)]
    metrics = [
        {"key": key, "value": value, "timestamp": now_ms + step, "step": step}
        for step, (key, value) in enumerate(samples)
    ]
    tags = {
        "nautilus.end.cause": "out_of_memory",
        "nautilus.end.reason": "512 MiB are all that it may use",
        "nautilus.peak.memory_mib": "512",
    }
    async with management.client(job.token) as runner:
        for part in ({"metrics": metrics}, {"tags": [{"key": k, "value": v} for k, v in tags.items()]}):
            answer = await runner.post("/api/2.0/mlflow/runs/log-batch", json={"run_id": run_id, **part})
            assert answer.status_code == 200, answer.text

    usage = (await ada.get(f"/api/v1/experiments/{number}/usage")).json()
    assert [(one["name"], one["now"], round(one["peak"])) for one in usage["values"]] == [
        ("CPU", 10.0, 90),
        ("Memory", 100.0, 537),
    ]
    gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="script_failure", exit_code=137)
    failed = await reached(ada, number, "failed")
    assert failed["reason"] == "out of memory: 512 MiB are all that it may use"
    assert failed["metrics"] == {"loss": 0.5}
    async with management.client("glpat-eve") as stranger:
        assert (await stranger.get(f"/api/v1/experiments/{number}/usage")).status_code == 404
