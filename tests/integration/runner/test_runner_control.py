"""Ending jobs before their time: canceled in every phase, fenced off, timed out, deaf to signals."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunningAgent, processes_with, silent_listener
from nautilus_runner.testing.server import ProtocolServer

ARTIFACT = {"paths": ["a"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}


async def gone(runner: RunningAgent, timeout_s: float = 60.0) -> None:
    """Nothing of any job is left: no task, no folder, no memory."""
    assert runner.agent is not None
    deadline = time.monotonic() + timeout_s
    while not runner.agent.is_idle or any((runner.data_dir / "journal").iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert not any((runner.data_dir / "builds").iterdir())


async def test_a_cancel_ends_the_script_and_still_runs_after_script(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    payload = job_payload(["echo begun", "sleep 777.1"], after_script=["echo after=$CI_JOB_STATUS"])
    job = server.add_job(payload)
    await runner.start(server.url)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert job.status == "canceled"
    assert "script canceled externally (UI, API)" in job.log
    assert "after=canceled" in job.log
    assert "ERROR: Job failed: canceled" in job.log
    assert job.finals[-1]["failure_reason"] == "unknown_failure"
    assert not processes_with("777.1")
    await gone(runner)


async def test_a_cancel_of_a_silent_job_is_learnt_at_once_by_a_held_touch(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(job_payload(["sleep 777.2"]))
    await runner.start(server.url)
    await server.until(lambda: b"sleep 777.2" in job.trace)
    server.interval = "600"  # so long it takes a runner that asks now and then
    await asyncio.sleep(1.5)
    server.cancel(job, force=True)
    await gone(runner)
    assert job.touches <= 3
    assert not processes_with("777.2")


async def test_a_cancel_is_learnt_by_asking_where_the_server_does_not_hold_touches(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.knows_prefer = False
    job = server.add_job(job_payload(["sleep 777.3"]))
    await runner.start(server.url)
    await server.until(lambda: b"sleep 777.3" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert job.status == "canceled"
    await gone(runner)


async def test_a_forced_cancel_does_not_wait_for_grace_nor_after_script(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    deaf = "trap '' TERM INT HUP; echo deaf; while :; do sleep 0.1; done"
    job = server.add_job(
        job_payload([f"bash -c {deaf!r}"], after_script=["echo never"], artifacts=[ARTIFACT])
    )
    await runner.start(server.url, process={"user": "nobody", "grace_s": 60})
    await server.until(lambda: b"\ndeaf\n" in job.trace)
    server.cancel(job, force=True)
    asked_at = time.monotonic()
    await gone(runner)
    assert time.monotonic() - asked_at < 30, "not after the grace"
    assert "never" not in job.log


async def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    deaf = "trap '' TERM INT HUP; echo deaf; while :; do sleep 0.1; done"
    job = server.add_job(job_payload([f"bash -c {deaf!r}"]))
    await runner.start(server.url, process={"user": "nobody", "grace_s": 1.0})
    await server.until(lambda: b"\ndeaf\n" in job.trace)
    server.cancel(job)
    asked_at = time.monotonic()
    await server.finished(job)
    assert time.monotonic() - asked_at > 0.9
    await gone(runner)


async def test_what_a_job_says_while_it_is_asked_to_end_is_kept(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    polite = "trap 'echo checkpoint saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    job = server.add_job(job_payload([f'bash -c "{polite}"']))
    await runner.start(server.url, process={"user": JOB_USER, "grace_s": 60.0})
    await server.until(lambda: b"\nready\n" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert "checkpoint saved" in job.log


async def test_a_cancel_while_sources_are_fetched(
    server: ProtocolServer, runner: RunningAgent, repository: Repository
) -> None:
    sha = repository.commit({"a": "1"})
    repository.point("refs/pipelines/7", sha)
    hanging = silent_listener()
    port = hanging.getsockname()[1]
    payload = job_payload(url=server.url, sha=sha)
    job = server.add_job(payload)
    await runner.start(server.url, clone_url=f"http://127.0.0.1:{port}")
    await server.until(lambda: b"Fetching changes" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert job.status == "canceled"
    await gone(runner)
    hanging.close()


async def test_a_cancel_while_artifacts_are_uploaded(server: ProtocolServer, runner: RunningAgent) -> None:
    server.upload_statuses = [503] * 1000
    job = server.add_job(job_payload(["echo a > a"], artifacts=[ARTIFACT]))
    await runner.start(server.url)
    await server.until(lambda: b"503 Service Unavailable" in job.trace)
    server.cancel(job, force=True)
    await gone(runner)
    assert not job.uploads


async def test_a_cancel_while_waiting_for_a_slot_never_reaches_the_runner(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    first = server.add_job(job_payload(["sleep 1"]))
    second = server.add_job(job_payload())
    await runner.start(server.url, concurrent=1)
    await server.until(lambda: first.claims == 1)
    server.cancel(second)
    await server.finished(first)
    await gone(runner)
    assert second.claims == 0


async def test_a_runner_that_lost_its_lease_is_refused_and_stops(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(job_payload(["echo begun", "while :; do echo tick; sleep 0.1; done"]))
    await runner.start(server.url)
    await server.until(lambda: b"tick" in job.trace)
    job.token = "given-to-another-runner"
    length = len(job.trace)
    await gone(runner)
    assert len(job.trace) == length
    assert not job.finals


async def test_a_job_that_the_server_failed_is_stopped_without_a_report(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(job_payload(["echo begun", "sleep 777.4"]))
    await runner.start(server.url)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    job.status = "failed"
    server._notify()
    await gone(runner)
    assert not job.finals and not processes_with("777.4")


async def test_a_confirmation_that_comes_too_late_runs_nothing(
    server: ProtocolServer, runner: RunningAgent, tmp_path: Path
) -> None:
    """Between the offer and its confirmation the server gave the job to somebody else."""
    mark = tmp_path / "ran"
    tmp_path.chmod(0o777)
    job = server.add_job(job_payload([f"touch {mark}"]))

    async def steal() -> None:
        await server.until(lambda: job.claims == 1)
        job.token = "given-to-another-runner"

    stealing = asyncio.create_task(steal())
    await runner.start(server.url)
    await stealing
    await gone(runner)
    assert not mark.exists()


async def test_the_scripts_own_timeout_leaves_after_script_its_turn(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    payload = job_payload(
        ["echo begun", "sleep 777.5"],
        after_script=["echo cleaning"],
        variables=[variable("RUNNER_SCRIPT_TIMEOUT", "1s")],
    )
    job = server.add_job(payload)
    await runner.start(server.url)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "job_execution_timeout"
    assert "\ncleaning\n" in job.log


async def test_after_script_has_a_limit_of_its_own(server: ProtocolServer, runner: RunningAgent) -> None:
    payload = job_payload(
        after_script=["sleep 777.6"], variables=[variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "1s")]
    )
    job = server.add_job(payload)
    await runner.start(server.url)
    await server.finished(job)
    assert job.status == "success"
    assert not processes_with("777.6")


async def test_artifacts_are_saved_when_a_job_times_out(server: ProtocolServer, runner: RunningAgent) -> None:
    job = server.add_job(job_payload(["echo model > a", "sleep 777.7"], artifacts=[ARTIFACT], timeout_s=2))
    await runner.start(server.url)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "job_execution_timeout"
    assert len(job.uploads) == 1


async def test_a_bad_runner_token_is_told_and_asked_again_soon(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.runner_tokens.clear()
    agent = await runner.start(server.url)
    await server_requests(server, 1)
    deadline = time.monotonic() + 60
    while "403" not in agent.status().reason:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert agent.status().state == "connecting"


async def server_requests(server: ProtocolServer, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.requests) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
