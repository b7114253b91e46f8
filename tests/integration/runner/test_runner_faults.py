"""What networks, servers and killed processes do to a runner, and that nothing is lost or doubled by it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import time

import pytest

from nautilus_runner.gpus.wish import COUNT_VARIABLE
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.proxy import FaultyProxy
from nautilus_runner.testing.running import RunnerProcess, RunningAgent, processes_with, silent_listener
from nautilus_runner.testing.server import ProtocolServer, ServedJob

LINES = 400
TALKER = f"for i in $(seq {LINES}); do echo line-$i-$(printf '%0200d' $i); sleep 0.01; done"
FAULTS = ("drop", "mute", "truncate", "shorten", "duplicate", "replay", "refuse")


def expected_output(lines: int = LINES) -> bytes:
    return b"".join(b"line-%d-%0200d\n" % (i, i) for i in range(1, lines + 1))


def output_of(job: ServedJob) -> bytes:
    """What the script printed, between its echoed command and the end of its section."""
    body = bytes(job.trace).split(b":step_script\r", 1)[1].split(b"section_end", 1)[0]
    return body[body.index(b"line-1-") :]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_log_is_exact_to_the_byte_through_a_network_that_mistreats_it(
    server: ProtocolServer, runner: RunningAgent, seed: int
) -> None:
    chance = random.Random(seed)

    def plan(method: str, path: str) -> str | None:
        return chance.choice(FAULTS) if method in ("PATCH", "PUT") and chance.random() < 0.4 else None

    async with FaultyProxy(server.port, plan) as proxy:
        job = server.add_job(job_payload([TALKER]))
        await runner.start(proxy.url)
        await server.finished(job, 90)
        assert job.status == "success"
        assert digest(output_of(job)) == digest(expected_output())
        assert job.log.endswith("Job succeeded\x1b[0;m\n")
        assert sum(proxy.counts.get(fault, 0) for fault in FAULTS) > 5
        await runner.stop()


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_alone_on_every_second_piece_of_the_log(
    server: ProtocolServer, runner: RunningAgent, fault: str
) -> None:
    turn = iter(range(10**6))

    def plan(method: str, path: str) -> str | None:
        return fault if method == "PATCH" and next(turn) % 2 else None

    async with FaultyProxy(server.port, plan) as proxy:
        job = server.add_job(job_payload([TALKER.replace(str(LINES), "120")]))
        await runner.start(proxy.url)
        await server.finished(job)
        assert digest(output_of(job)) == digest(expected_output(120))
        await runner.stop()


async def test_a_result_that_the_server_takes_its_time_to_store_is_repeated(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.accepts_first = 2
    job = server.add_job(job_payload())
    await runner.start(server.url)
    await server.finished(job)
    assert len(job.finals) == 3


async def test_a_job_that_fails_before_its_claim_is_confirmed_fails_all_the_same(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.may_confirm.clear()
    wrong = {
        "key": COUNT_VARIABLE,
        "value": "many",
        "public": True,
        "masked": False,
        "file": False,
        "raw": False,
    }
    job = server.add_job(job_payload(variables=[wrong]))
    await runner.start(server.url)
    await server.until(lambda: ("PUT", f"/api/v4/jobs/{job.id}") in server.requests)
    with pytest.raises(TimeoutError):  # nothing is sent that the server would refuse
        await server.until(lambda: ("PATCH", f"/api/v4/jobs/{job.id}/trace") in server.requests, 2.0)
    server.may_confirm.set()
    await server.finished(job)
    assert (job.status, job.claims) == ("failed", 1)
    assert "must be a count of GPUs" in job.log


async def test_a_log_that_does_not_match_is_sent_again_from_the_start(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    go = runner.data_dir / "go"
    job = server.add_job(job_payload(["echo whole", f"while [ ! -e {go} ]; do sleep 0.05; done"]))
    await runner.start(server.url)
    await server.until(lambda: b"\nwhole\n" in job.trace)
    job.trace[5:10] = b"XXXXX"
    go.touch()
    await server.finished(job)
    assert b"XXXXX" not in job.trace
    assert job.status == "success"


async def test_the_server_is_away_at_the_jobs_end_and_gets_the_result_when_it_is_back(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(job_payload(["echo begun", "sleep 1", "echo ended"]))
    agent = await runner.start(server.url)
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await server.stop()
    deadline = time.monotonic() + 60
    while [run["state"] for run in agent.status().jobs] != ["reporting"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    while agent.status().busy:
        assert time.monotonic() < deadline, "a job that only waits to be reported holds no slot"
        await asyncio.sleep(0.02)
    server.is_down = False
    await server.start()
    await server.finished(job)
    assert job.status == "success"
    assert len(job.finals) == 1
    assert "ended" in job.log


async def test_the_server_goes_away_for_a_while_in_mid_job_and_the_log_has_no_gap(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = server.add_job(job_payload([TALKER]))
    await runner.start(server.url)
    await server.until(lambda: b"line-20-" in job.trace)
    await server.stop()
    await asyncio.sleep(1.5)
    server.is_down = False
    await server.start()
    await server.finished(job)
    assert digest(output_of(job)) == digest(expected_output())


async def test_5xx_and_429_are_waited_out(server: ProtocolServer, runner: RunningAgent) -> None:
    server.is_down = True
    job = server.add_job(job_payload(["echo hello"]))
    agent = await runner.start(server.url)
    deadline = time.monotonic() + 60
    while "503" not in agent.status().reason:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    server.is_down = False
    await server.finished(job)
    assert job.status == "success"


# ---- the runner itself dies


@pytest.mark.parametrize("kills", [1, 3])
async def test_a_killed_runner_finds_its_job_again_and_the_log_is_exact(
    server: ProtocolServer, service: RunnerProcess, kills: int
) -> None:
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload([TALKER], after_script=["echo after"]))
    for number in range(kills):
        await server.until(lambda n=number: b"line-%d-" % (20 + 60 * n) in job.trace)
        await service.kill()
        await asyncio.sleep(0.3)
        service.start()
    await server.finished(job)
    assert job.status == "success", service.log()
    assert digest(output_of(job)) == digest(expected_output())
    assert job.claims == 1
    assert len(job.finals) == 1
    assert "\nafter\n" in job.log


async def test_a_secret_cut_by_the_kill_is_still_masked(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    secret = variable("PASSWORD", "hunter2-hunter2", masked=True, public=False)
    script = ["echo begun", "printf hunter2-; sleep 2; echo hunter2; echo done"]
    job = server.add_job(job_payload(script, variables=[secret]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await asyncio.sleep(0.5)
    await service.kill()
    service.start()
    await server.finished(job)
    assert b"hunter2-" not in bytes(job.trace).replace(b"printf hunter2-;", b"")
    assert b"[MASKED]\ndone\n" in job.trace


async def test_a_job_that_ended_while_no_runner_was_there_is_reported_at_the_next_start(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    artifact = {"paths": ["a"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}
    job = server.add_job(job_payload(["echo begun", "sleep 1", "echo a > a", "exit 9"], artifacts=[artifact]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await service.kill()
    await asyncio.sleep(2)
    service.start()
    await server.finished(job)
    assert job.finals[-1]["exit_code"] == 9
    assert len(job.uploads) == 1


async def test_a_result_outlives_runner_and_server_both_gone(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 1", "echo ended"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await server.stop()
    await asyncio.sleep(2.5)
    await service.kill()
    server.is_down = False
    await server.start()
    service.start()
    await server.finished(job)
    assert job.status == "success"
    assert len(job.finals) == 1
    assert job.log.count("\nended\n") == 1


async def test_a_runner_killed_while_it_prepares_prepares_again(
    server: ProtocolServer, service: RunnerProcess, repository: Repository
) -> None:
    sha = repository.commit({"a": "1"})
    repository.point("refs/pipelines/7", sha)
    hanging = silent_listener()
    service.configure(server.url, clone_url=f"http://127.0.0.1:{hanging.getsockname()[1]}")
    service.start()
    job = server.add_job(job_payload(["cat a; echo; echo ran"], url=server.url, sha=sha))
    await server.until(lambda: b"Fetching changes" in job.trace)
    await service.kill()
    hanging.close()
    # the journal keeps the settings that the job began with; only new ones mend the address
    journal = next((service.data_dir / "journal").glob("*/journal.jsonl"))
    journal.write_text(
        journal.read_text().replace('"clone_url":"http://127.0.0.1', f'"clone_url":"{server.url}","x":"')
    )
    service.start()
    await server.finished(job)
    assert job.status == "success", job.log
    assert job.log.count("\nran\n") == 1
    assert "The runner was restarted; the job is prepared again." in job.log


async def test_sigterm_leaves_the_job_running_and_the_next_start_takes_it_up(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload([TALKER]))
    await server.until(lambda: b"line-20-" in job.trace)
    service.send(signal.SIGTERM)
    assert await service.wait() == 0
    assert not job.is_over
    service.start()
    await server.finished(job)
    assert digest(output_of(job)) == digest(expected_output())
    assert job.claims == 1


async def test_sigquit_ends_the_jobs_and_reports_them(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 777.8"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    service.send(signal.SIGQUIT)
    assert await service.wait() == 0
    assert job.status == "failed"
    assert job.finals[-1]["failure_reason"] == "runner_interrupted"
    assert "ERROR: Job failed: aborted: the runner was told to stop" in job.log
    assert not any((service.data_dir / "journal").iterdir())


async def test_a_second_signal_hastens(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 777.9"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await server.stop()
    service.send(signal.SIGQUIT)
    await asyncio.sleep(0.5)
    assert service.process is not None and service.process.poll() is None, "it tries to report"
    service.send(signal.SIGQUIT)
    asked_at = time.monotonic()
    await service.wait()
    assert time.monotonic() - asked_at < 15, "not after the time that it has for its reports"
    server.is_down = False
    await server.start()
    service.start()
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "runner_interrupted"


async def test_a_lost_journal_leaves_no_job_running(server: ProtocolServer, service: RunnerProcess) -> None:
    """Somebody removed the journal of a dead runner: what its jobs left is ended and removed."""
    service.configure(server.url)
    service.start()
    job = server.add_job(job_payload(["echo begun", "sleep 778.1"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await service.kill()
    for path in (service.data_dir / "journal").glob("*/journal.jsonl"):
        path.unlink()
    service.start()
    deadline = time.monotonic() + 60
    while any((service.data_dir / "builds").iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    while processes_with("778.1"):
        assert time.monotonic() < deadline, service.log()
        await asyncio.sleep(0.05)
