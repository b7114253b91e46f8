"""An experiment's attempts: what is tried again of itself, what is moved to another machine, and what people see."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from nautilus.core.states import JobState
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.testing.experiments import reached, submit, taken
from nautilus.testing.management import RunningManagement, eventually


async def attempts(client: httpx.AsyncClient, experiment: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/v1/experiments/{experiment['id']}/attempts")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_what_its_machine_did_is_tried_again_and_each_attempt_stays_visible(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    assert experiment["retry"] == {"max": 2, "on": ["platform", "lost", "image"]}
    first = await taken(gitlab)
    gitlab.finish_job(first.job.id, JobState.FAILED, failure_reason="runner_system_failure")
    second = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    gitlab.finish_job(second.job.id, JobState.SUCCESS)
    done = await reached(ada, experiment["id"], "succeeded")
    assert done["job_id"] == second.job.id
    found = await attempts(ada, experiment)
    told = [(a["number"], a["state"], a["source"], a["runner"]) for a in found]
    assert told == [(1, "failed", "platform", "bundled"), (2, "succeeded", None, "bundled")]
    assert found[0]["reason"] == "the runner failed, not the command (runner system failure)"
    assert found[0]["duration_s"] >= 0


async def test_the_users_own_error_is_not_tried_again_unasked(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="script_failure", exit_code=1)
    await reached(ada, experiment["id"], "failed")
    assert [a["source"] for a in await attempts(ada, experiment)] == ["user"]


async def test_what_is_tried_again_and_how_often_is_the_submitters_to_say(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project, retry={"max": 1, "on": ["memory"]})
    for _ in range(2):
        job = await taken(gitlab)
        gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="script_failure", exit_code=137)
    await reached(ada, experiment["id"], "failed")
    assert [a["source"] for a in await attempts(ada, experiment)] == ["memory", "memory"]


async def test_a_preempted_one_goes_on_as_the_same_run_once_its_job_has_let_go(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    first = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    answer = await ada.post(f"/api/v1/experiments/{experiment['id']}/preempt")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["reason"].startswith("it is to go on elsewhere")) == (
        "running",
        True,
    )
    assert gitlab.jobs[first.job.id].job.state is JobState.CANCELING
    assert len(gitlab.jobs) == 1, "no second attempt while the first still saves its work"
    gitlab.finish_job(first.job.id, JobState.FAILED)

    async def is_there_again() -> bool:
        return len(gitlab.jobs) == 2

    await eventually(is_there_again, "the next attempt")
    second = await taken(gitlab)
    gitlab.finish_job(second.job.id, JobState.SUCCESS)
    done = await reached(ada, experiment["id"], "succeeded")
    assert (done["job_id"], done["mlflow_run_id"]) == (second.job.id, experiment["mlflow_run_id"])
    assert [a["state"] for a in await attempts(ada, experiment)] == ["canceled", "succeeded"]


async def test_one_that_is_cancelled_while_it_moves_stays_cancelled(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    await ada.post(f"/api/v1/experiments/{experiment['id']}/preempt")
    await ada.post(f"/api/v1/experiments/{experiment['id']}/cancel")
    gitlab.finish_job(job.job.id, JobState.FAILED)
    await reached(ada, experiment["id"], "canceled")
    assert len(gitlab.jobs) == 1


@pytest.mark.parametrize("action", ["waits", "ended"])
async def test_only_what_runs_can_be_preempted(
    management: RunningManagement,
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    action: str,
) -> None:
    [experiment] = await submit(ada, project)
    if action == "ended":
        gitlab.finish_job((await taken(gitlab)).job.id, JobState.SUCCESS)
        await reached(ada, experiment["id"], "succeeded")
    answer = await ada.post(f"/api/v1/experiments/{experiment['id']}/preempt")
    assert answer.status_code == 409
    assert "only an experiment that runs" in answer.json()["message"]
