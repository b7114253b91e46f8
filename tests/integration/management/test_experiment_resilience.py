"""Whatever breaks and whenever: an accepted experiment is launched once, followed to its end, and cleaned
up."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import text, update

from nautilus.core.states import JobState
from nautilus.db.models.experiment import Experiment
from nautilus.errors import GitLabForbidden, GitLabUnauthenticated, GitLabUnavailable
from nautilus.experiments import follow
from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.port import FileChange
from nautilus.settings import Settings
from nautilus.testing.experiments import closed, reached, submit, taken
from nautilus.testing.gitlab_worlds import personal
from nautilus.testing.management import RunningManagement, eventually, running_management

AWAY = GitLabUnavailable("GitLab does not answer")
ADA = "glpat-ada"


def branches_of_runs(gitlab: MemoryGitLab) -> list[str]:
    return [name for p in gitlab.projects.values() for name in p.branches if name != "main"]


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "method", ["has_file", "commit_files", "pipelines", "pipeline_jobs", "job", "delete_branch"]
)
async def test_an_answer_of_gitlabs_that_is_lost_makes_nothing_twice(
    management: RunningManagement,
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    method: str,
    after_effect: bool,
) -> None:
    gitlab.fail_next(method, AWAY, after_effect=after_effect)
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
    await closed(management, gitlab, experiment["id"])
    assert len(gitlab.pipelines) == len(gitlab.jobs) == 1
    assert branches_of_runs(gitlab) == []


@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
async def test_a_restart_in_the_middle_of_a_launch_finds_or_completes_it(
    settings: Settings, gitlab: MemoryGitLab, after_effect: bool
) -> None:
    async with running_management(settings, gitlab) as first, first.client(ADA) as ada:
        made = (await ada.post("/api/v1/projects", json={"name": "p"})).json()
        for _ in range(1000):
            gitlab.fail_next("commit_files", AWAY, after_effect=after_effect)
        [experiment] = await submit(ada, made)
        await eventually(_called(gitlab, "branch_head" if after_effect else "commit_files"), "a try")
    gitlab.faults.clear()
    gitlab.users["glpat-ada-2"] = gitlab.users.pop(ADA)
    async with running_management(settings, gitlab) as second, second.client("glpat-ada-2") as ada:
        job = await taken(gitlab)
        assert job.user.username == "ada"
        gitlab.finish_job(job.job.id, JobState.SUCCESS)
        await reached(ada, experiment["id"], "succeeded")
    assert len(gitlab.pipelines) == 1


def _called(gitlab: MemoryGitLab, method: str) -> Any:
    async def look() -> bool:
        return method in gitlab.calls

    return look


async def test_a_run_that_ended_while_nobody_looked_is_found_at_the_next_start(
    settings: Settings, gitlab: MemoryGitLab
) -> None:
    async with running_management(settings, gitlab) as first, first.client(ADA) as ada:
        made = (await ada.post("/api/v1/projects", json={"name": "p"})).json()
        [experiment] = await submit(ada, made)
        job = await taken(gitlab)
        await reached(ada, experiment["id"], "running")
    gitlab.finish_job(job.job.id, JobState.FAILED, failure_reason="script_failure", exit_code=2)
    async with running_management(settings, gitlab) as second, second.client(ADA) as ada:
        failed = await reached(ada, experiment["id"], "failed")
        assert failed["reason"] == "the command ended with exit code 2"
        await closed(second, gitlab, experiment["id"])


async def test_an_outage_of_gitlab_is_waited_out(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    gitlab.is_down = True
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    calls = len(gitlab.calls)
    await eventually(_more_calls(gitlab, calls), "a try while GitLab is away")
    gitlab.is_down = False
    await reached(ada, experiment["id"], "succeeded")


def _more_calls(gitlab: MemoryGitLab, before: int) -> Any:
    async def look() -> bool:
        return len(gitlab.calls) > before

    return look


async def test_an_outage_of_the_database_is_waited_out(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    async with management.parts.database.read() as session:
        others = "datname = current_database() and pid <> pg_backend_pid()"
        await session.execute(text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}"))
    gitlab.finish_job(job.job.id, JobState.SUCCESS)

    async def look() -> bool:
        answer = await ada.get(f"/api/v1/experiments/{experiment['id']}")
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200 and answer.json()["state"] == "succeeded"

    await eventually(look, "the end")


async def test_what_gitlab_refuses_fails_with_its_words(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    gitlab.fail_next("commit_files", GitLabForbidden("GitLab does not allow this: the branch is protected"))
    [experiment] = await submit(ada, project)
    failed = await reached(ada, experiment["id"], "failed")
    assert failed["reason"] == "it could not be launched. GitLab does not allow this: the branch is protected"


async def test_a_token_that_ends_between_submission_and_launch_is_replaced_by_sudo(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    gitlab.fail_next("commit_files", GitLabUnauthenticated("revoked"))
    [experiment] = await submit(ada, project)
    assert (await taken(gitlab)).user.username == "ada"
    await reached(ada, experiment["id"], "running")


async def test_a_branch_of_that_name_that_is_somebody_elses_is_not_touched(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    account = gitlab.acting(personal(ADA))
    theirs = await account.commit_files(project["id"], "nautilus/run-1", "mine", [FileChange("x", "y")])
    [experiment] = await submit(ada, project)
    assert experiment["id"] == 1
    failed = await reached(ada, 1, "failed")
    assert "is not this run's" in failed["reason"]
    stored = gitlab.projects[project["id"]]
    assert stored.branches["nautilus/run-1"] == theirs.sha


async def test_a_job_that_gitlab_has_no_more_ends_the_experiment(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    await reached(ada, experiment["id"], "running")
    del gitlab.jobs[job.job.id]
    assert (await reached(ada, experiment["id"], "failed"))["reason"] == "its job is gone from GitLab"


async def test_a_push_that_makes_no_pipeline_fails_after_a_while(
    management: RunningManagement,
    gitlab: MemoryGitLab,
    ada: httpx.AsyncClient,
    project: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gitlab, "make_pipeline", lambda *_: None)
    [experiment] = await submit(ada, project)
    await eventually(_called(gitlab, "pipelines"), "a look for the pipeline")
    assert (await reached(ada, experiment["id"], "queued"))["reason"]
    past = Experiment.created_at - follow.PIPELINE_PATIENCE * 2
    async with management.parts.database.transaction() as session:
        await session.execute(update(Experiment).values(launched_at=past))
    failed = await reached(ada, experiment["id"], "failed")
    assert failed["reason"] == "GitLab made no pipeline within 60 s: is CI/CD on in this project?"
    await closed(management, gitlab, experiment["id"])


async def test_metrics_that_tracking_does_not_take_do_not_keep_a_run_from_its_end(
    management: RunningManagement, gitlab: MemoryGitLab, ada: httpx.AsyncClient, project: dict[str, Any]
) -> None:
    [experiment] = await submit(ada, project)
    job = await taken(gitlab)
    run = experiment["mlflow_run_id"]
    assert (await ada.post("/api/2.0/mlflow/runs/delete", json={"run_id": run})).status_code == 200
    gitlab.upload_artifacts(job.job.id, {"metrics.jsonl": b'{"key": "a", "value": 1}'})
    gitlab.finish_job(job.job.id, JobState.SUCCESS)
    await reached(ada, experiment["id"], "succeeded")
