"""Jobs that are run again of themselves: after what failure, when, and what is still known of each try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from gitlab.v4.objects import Project, ProjectPipeline

from nautilus_forge.jobs import failures
from nautilus_forge.jobs.failures import MAX_HANDED_BACK, pause_after_hand_back_s, pause_s_before
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.testing.runner import FakeRunner, TakenJob

Push = Callable[..., ProjectPipeline]


def tries(project: Project, pipeline: ProjectPipeline) -> list[tuple[int, str, str | None]]:
    found = project.pipelines.get(pipeline.id).jobs.list(all=True, include_retried=True)
    return sorted((job.id, job.status, getattr(job, "failure_reason", None)) for job in found)


def give_back(job: TakenJob) -> httpx.Response:
    job.patch(b"x")
    return job.finish("failed", failure_reason="runner_interrupted", requeue=True)


def test_machines_get_time_and_scripts_do_not() -> None:
    assert [pause_s_before("runner_system_failure", n) for n in (0, 1, 2, 20)] == [2.0, 4.0, 8.0, 300.0]
    assert pause_s_before("script_failure", 1) == 0.0
    assert [pause_after_hand_back_s(n) for n in (0, 2, 3, 4)] == [0.0, 0.0, 2.0, 4.0]


def test_a_job_that_its_runner_gives_back_is_offered_again_at_once_without_counting_as_a_retry(
    project: Project, push: Push, runner: FakeRunner, eventually: Callable[..., Any]
) -> None:
    pipeline = push("job: {script: [x], retry: {max: 1, when: [runner_system_failure]}}\n")
    first = runner.take_one()
    assert give_back(first).status_code == 200
    second = runner.take_one()
    assert first.patch(b"late").status_code == 403
    second.patch(b"x")
    second.finish("failed", failure_reason="runner_system_failure")
    third = eventually(runner.take)
    third.finish()
    assert tries(project, pipeline) == [
        (first.id, "failed", "runner_interrupted"),
        (second.id, "failed", "runner_system_failure"),
        (third.id, "success", None),
    ]
    assert project.pipelines.get(pipeline.id).status == "success"


@pytest.mark.alone
def test_what_went_wrong_with_a_machine_is_tried_again_after_a_pause(
    project: Project, push: Push, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_FIRST_PAUSE_S", 60.0)
    pipeline = push("job: {script: [x], retry: 2}\n")
    runner.run(state="failed", failure_reason="runner_system_failure")
    assert tries(project, pipeline)[-1][1] == "scheduled"
    assert runner.take() is None


def test_what_the_script_did_is_tried_again_at_once(project: Project, push: Push, runner: FakeRunner) -> None:
    pipeline = push("job: {script: [x], retry: 2}\n")
    runner.run(state="failed", failure_reason="script_failure")
    assert tries(project, pipeline)[-1][1] == "pending"


@pytest.mark.parametrize("limits", [CiLimits(upkeep_every_s=0.02)])
def test_no_job_is_given_back_for_ever(
    forge: Any, admin: httpx.Client, project: Project, push: Push, runner: FakeRunner
) -> None:
    pipeline = push("job: {script: [x]}\n")
    for _ in range(MAX_HANDED_BACK + 1):
        job = runner.take()
        if job is None:
            waiting = tries(project, pipeline)[-1][0]
            assert admin.post(f"/projects/{project.id}/jobs/{waiting}/play").status_code == 200
            job = runner.take_one()
        give_back(job)
    assert runner.take() is None
    assert project.pipelines.get(pipeline.id).status == "failed"
    assert len(tries(project, pipeline)) == MAX_HANDED_BACK + 1


def test_a_job_that_was_cancelled_is_not_brought_back_by_its_runner(
    project: Project, push: Push, runner: FakeRunner
) -> None:
    runner.features["cancel_gracefully"] = True
    pipeline = push("job: {script: [x]}\n")
    job = runner.take_one()
    job.patch(b"x")
    project.jobs.get(job.id).cancel()
    job.finish("failed", failure_reason="runner_interrupted", requeue=True)
    assert [status for _, status, _ in tries(project, pipeline)] == ["canceled"]
