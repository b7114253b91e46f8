"""What every GitLab behind the port does with pipelines, jobs, logs, artifacts and runners."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from nautilus.core.states import JobState
from nautilus.errors import GitLabError, GitLabForbidden, GitLabNotFound, GitLabUnauthenticated, TooLarge
from nautilus.gitlab.port import Commit, FileChange, GitLabAccount, Job, Project
from nautilus.testing.gitlab_worlds import GitLabWorld, ci_file, job_credential

T = TypeVar("T")
BRANCH = "nautilus/run-5"


async def until(look: Callable[[], Awaitable[T]], is_right: Callable[[T], bool], limit_s: float = 60) -> T:
    async with asyncio.timeout(limit_s):
        while not is_right(found := await look()):
            await asyncio.sleep(0.05)
        return found


async def push(world: GitLabWorld, account: GitLabAccount, project: Project) -> Commit:
    base = await account.commit_files(project.id, "main", "base", [FileChange("train.py", "print(1)")])
    change = FileChange(".gitlab-ci.yml", ci_file("echo hello", world.tag))
    return await account.commit_files(project.id, BRANCH, "run", [change], start_sha=base.sha)


async def pushed_job(world: GitLabWorld, account: GitLabAccount, project: Project) -> Job:
    commit = await push(world, account, project)
    pipelines = await until(lambda: account.pipelines(project.id, ref=BRANCH), lambda found: bool(found))
    assert [(p.sha, p.ref) for p in pipelines] == [(commit.sha, BRANCH)]
    jobs = await until(
        lambda: account.pipeline_jobs(project.id, pipelines[0].id),
        lambda found: any(job.state is JobState.PENDING for job in found),
    )
    assert [job.name for job in jobs] == ["experiment"]
    return jobs[0]


async def test_a_push_with_a_ci_file_makes_one_pipeline_with_its_job(
    world: GitLabWorld, project: Project
) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    assert (job.project_id, job.ref, job.runner_id, job.has_artifacts) == (project.id, BRANCH, None, False)
    assert job.started_at is None and job.created_at.tzinfo is not None
    assert await account.job(project.id, job.id) == job
    assert [one.id for one in await account.active_jobs(project.id)] == [job.id]
    assert (await account.pipeline(project.id, job.pipeline_id)).yaml_errors is None
    assert await account.pipelines(project.id, ref="main") == []


async def test_a_job_is_followed_from_pending_to_success(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    taken = await world.take_job()
    assert (taken.id, taken.script) == (job.id, ["echo hello"])
    running = await account.job(project.id, job.id)
    assert running.state is JobState.RUNNING and running.started_at and running.runner_id is not None

    owner = await world.gitlab.acting(job_credential(taken)).current_job()
    assert (owner.job.job_id, owner.job.project_id, owner.job.ref) == (job.id, project.id, BRANCH)
    assert owner.user.id == (await account.whoami()).id

    await world.finish(taken, JobState.SUCCESS)
    done = await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.SUCCESS)
    assert done.finished_at is not None and done.failure_reason is None
    assert await account.active_jobs(project.id) == []
    with pytest.raises(GitLabUnauthenticated):
        await world.gitlab.acting(job_credential(taken)).current_job()


async def test_a_failed_job_says_why(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    await world.finish(await world.take_job(), JobState.FAILED, "script_failure")
    failed = await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.FAILED)
    assert failed.failure_reason == "script_failure"


async def test_the_log_is_read_from_any_byte_on(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    empty = await account.job_trace(project.id, job.id)
    assert (empty.data, empty.size) == (b"", 0)
    taken = await world.take_job()
    text = "line 1\n\x1b[32mgrün\x1b[0m\n".encode()
    await world.append_trace(taken, text, 0)
    assert (await account.job_trace(project.id, job.id)).data == text
    rest = await account.job_trace(project.id, job.id, 7)
    assert (rest.offset, rest.data, rest.size) == (7, text[7:], len(text))
    assert (await account.job_trace(project.id, job.id, len(text))).data == b""
    await world.append_trace(taken, b"line 3\n", len(text))
    more = await account.job_trace(project.id, job.id, len(text))
    assert (more.data, more.size) == (b"line 3\n", len(text) + 7)
    part = await account.job_trace(project.id, job.id, 2, limit_bytes=3)
    assert (part.data, part.size) == (text[2:5], len(text) + 7)
    await world.finish(taken, JobState.SUCCESS)


async def test_one_file_is_read_out_of_the_artifacts(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    with pytest.raises(GitLabNotFound):
        await account.job_artifact_files(project.id, job.id)
    taken = await world.take_job()
    await world.upload_artifacts(taken, {"out/metrics.jsonl": b"{}\n", "out/a b/ä.txt": b"x" * 5000})
    await world.finish(taken, JobState.SUCCESS)
    await until(lambda: account.job(project.id, job.id), lambda j: j.has_artifacts)
    assert await account.job_artifact_file(project.id, job.id, "out/metrics.jsonl", 100) == b"{}\n"
    listed = {one.path: one.size_bytes for one in await account.job_artifact_files(project.id, job.id)}
    assert listed == {"out/metrics.jsonl": 3, "out/a b/ä.txt": 5000}
    assert await account.job_artifact_file(project.id, job.id, "out/a b/ä.txt", 5000) == b"x" * 5000
    with pytest.raises(TooLarge):
        await account.job_artifact_file(project.id, job.id, "out/a b/ä.txt", 4999)
    with pytest.raises(GitLabNotFound):
        await account.job_artifact_file(project.id, job.id, "out/none", 100)


async def test_a_waiting_job_is_cancelled_at_once(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    await account.cancel_pipeline(project.id, job.pipeline_id)
    await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.CANCELED)
    await account.cancel_pipeline(project.id, job.pipeline_id)


async def test_a_running_job_is_cancelled_when_its_runner_lets_go(
    world: GitLabWorld, project: Project
) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    taken = await world.take_job()
    await account.cancel_pipeline(project.id, job.pipeline_id)
    found = await account.job(project.id, job.id)
    assert found.state in (JobState.CANCELING, JobState.CANCELED)
    await world.finish(taken, JobState.FAILED, "unknown_failure")
    await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.CANCELED)


async def test_a_job_that_is_canceling_is_ended_without_its_runner(
    world: GitLabWorld, project: Project
) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    await world.take_job()
    await account.cancel_pipeline(project.id, job.pipeline_id)
    await account.force_cancel_job(project.id, job.id)
    await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.CANCELED)
    await account.force_cancel_job(project.id, job.id)
    stranger = world.gitlab.acting(await world.make_user())
    with pytest.raises((GitLabForbidden, GitLabNotFound)):
        await stranger.force_cancel_job(project.id, job.id)


async def test_a_cancelled_job_is_tried_again_and_both_attempts_are_told_of(
    world: GitLabWorld, project: Project
) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    first = await pushed_job(world, account, project)
    await account.cancel_pipeline(project.id, first.pipeline_id)
    await until(lambda: account.job(project.id, first.id), lambda j: j.state is JobState.CANCELED)
    second = await account.retry_job(project.id, first.id)
    assert (second.name, second.pipeline_id, second.state) == (
        first.name,
        first.pipeline_id,
        JobState.PENDING,
    )
    now = await account.pipeline_jobs(project.id, first.pipeline_id)
    ever = await account.pipeline_jobs(project.id, first.pipeline_id, with_retried=True)
    assert [job.id for job in now] == [second.id]
    assert sorted(job.id for job in ever) == [first.id, second.id]
    with pytest.raises(GitLabError):
        await account.retry_job(project.id, first.id)


async def test_a_branch_may_go_while_its_job_stays(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await world.make_runner()
    job = await pushed_job(world, account, project)
    taken = await world.take_job()
    await world.append_trace(taken, b"kept\n", 0)
    await world.finish(taken, JobState.SUCCESS)
    await until(lambda: account.job(project.id, job.id), lambda j: j.state is JobState.SUCCESS)
    await account.delete_branch(project.id, BRANCH)
    assert (await account.job(project.id, job.id)).state is JobState.SUCCESS
    assert (await account.job_trace(project.id, job.id)).data == b"kept\n"


async def test_a_faulty_ci_file_is_a_pipeline_that_says_so(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    await account.commit_files(project.id, "main", "base", [FileChange(".gitlab-ci.yml", "job: [unclosed")])
    found = await until(lambda: account.pipelines(project.id, ref="main"), lambda p: bool(p))
    pipeline = await account.pipeline(project.id, found[0].id)
    assert pipeline.status == "failed" and pipeline.yaml_errors
    assert await account.pipeline_jobs(project.id, pipeline.id) == []


async def test_what_is_not_there_is_not_found(world: GitLabWorld, project: Project) -> None:
    account = world.gitlab.acting(world.admin)
    for missing in (
        account.job(project.id, 2**31 - 2),
        account.job_trace(project.id, 2**31 - 2),
        account.pipeline(project.id, 2**31 - 2),
        account.job_artifact_file(project.id, 2**31 - 2, "a", 10),
    ):
        with pytest.raises(GitLabNotFound):
            await missing


async def test_runners_are_listed_for_administrators_and_users(world: GitLabWorld) -> None:
    await world.make_runner()
    listed = await world.gitlab.acting(world.admin).runners()
    assert any(runner.is_shared and not runner.is_paused for runner in listed)
    assert isinstance(await world.gitlab.acting(await world.make_user()).runners(), list)
