"""Cancelling works in every state; a re-run is the same again."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

from nautilus.core.states import JobState
from nautilus.errors import GitLabUnavailable
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import AccessLevel, FileChange
from nautilus.testing.experiments import closed, reached, submit, taken
from nautilus.testing.gitlab_worlds import personal
from nautilus.testing.management import RunningManagement, eventually

AWAY = GitLabUnavailable("GitLab does not answer")


async def cancel(client: httpx.AsyncClient, experiment: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/experiments/{experiment['id']}/cancel")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_one_that_waits_for_a_runner_is_cancelled_at_once(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)

    async def is_at_gitlab() -> bool:
        return (await ada.get(f"/api/v1/experiments/{experiment['id']}")).json()["job_id"] is not None

    await eventually(is_at_gitlab, "its job")
    assert (await cancel(ada, experiment))["state"] in ("canceling", "canceled")
    done = await reached(ada, experiment["id"], "canceled")
    assert done["reason"] == "it was canceled" and done["finished_at"] and done["started_at"] is None
    await closed(management, gitlab, experiment["id"])


async def test_a_running_one_is_canceling_until_its_runner_lets_go(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    assert (await cancel(ada, experiment))["state"] == "canceling"
    assert gitlab.jobs[job.job.id].job.state is JobState.CANCELING
    assert (await cancel(ada, experiment))["state"] == "canceling"
    gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="unknown_failure")
    await reached(ada, experiment["id"], "canceled")


async def test_one_that_is_just_being_launched_leaves_nothing_behind(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    for _ in range(3):
        gitlab.fail_next("commit_files", AWAY, after_effect=True)
        gitlab.fail_next("branch_head", AWAY)
    [experiment] = await submit(ada, project)

    async def is_half_made() -> bool:
        return bool(gitlab.pipelines)

    await eventually(is_half_made, "the branch")
    await cancel(ada, experiment)
    await reached(ada, experiment["id"], "canceled")
    await closed(management, gitlab, experiment["id"])
    assert {stored.job.state for stored in gitlab.jobs.values()} == {JobState.CANCELED}


async def test_one_that_gitlab_never_heard_of_is_cancelled_without_it(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    for _ in range(200):
        gitlab.fail_next("has_file", AWAY)
    [experiment] = await submit(ada, project)
    await cancel(ada, experiment)
    await reached(ada, experiment["id"], "canceled")
    assert gitlab.pipelines == {}


async def test_one_that_has_ended_stays_as_it_is(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    gitlab.finish_job((await taken(gitlab)).job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
    assert (await cancel(ada, experiment))["state"] == "succeeded"


async def test_a_rerun_is_the_same_commit_command_parameters_and_seed(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project, seed=42, name="base", tags=["t"], env={"A": "b"})
    gitlab.finish_job((await taken(gitlab)).job.id, JobState.FAILED, failure_reason="script_failure")
    await reached(ada, experiment["id"], "failed")
    change = [FileChange("new.txt", "moved on")]
    await gitlab.acting(personal("glpat-ada")).commit_files(project["id"], "main", "later", change)
    answer = await ada.post(f"/api/v1/experiments/{experiment['id']}/rerun")
    assert answer.status_code == 201
    [again] = answer.json()["experiments"]
    same = ("commit_sha", "command", "params", "seed", "name", "tags", "ref", "image", "resources")
    assert {key: again[key] for key in same} == {key: experiment[key] for key in same}
    assert again["rerun_of"] == experiment["id"] and again["mlflow_run_id"] != experiment["mlflow_run_id"]
    job = await taken(gitlab)
    assert job.script["variables"]["A"] == {"value": "b", "expand": False}
    assert job.script["variables"]["MLFLOW_RUN_ID"] == again["mlflow_run_id"]


@pytest.mark.parametrize(
    ("level", "action", "status"),
    [
        (
            level,
            action,
            404 if level < AccessLevel.REPORTER else 403 if level < AccessLevel.DEVELOPER else 200,
        )
        for level, action in itertools.product(
            [
                AccessLevel.NONE,
                AccessLevel.GUEST,
                AccessLevel.REPORTER,
                AccessLevel.DEVELOPER,
                AccessLevel.OWNER,
            ],
            ["cancel", "rerun"],
        )
    ],
)
async def test_who_may_cancel_and_repeat(
    management: RunningManagement,
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    level: int,
    action: str,
    status: int,
) -> None:
    [experiment] = await submit(ada, project)
    gitlab.projects[project["id"]].members[gitlab.users["glpat-eve"].id] = level
    async with management.client("glpat-eve") as eve:
        answer = await eve.post(f"/api/v1/experiments/{experiment['id']}/{action}")
    assert answer.status_code in ({200, 201} if status == 200 else {status}), answer.text
