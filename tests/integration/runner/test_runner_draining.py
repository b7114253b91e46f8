"""Draining, and the socket by which commands speak with the service."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
import sys

import pytest

from nautilus_runner.control_socket import NAME, ask_once
from nautilus_runner.errors import ControlRefused, NotRunning
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunnerProcess, silent_listener
from nautilus_runner.testing.server import ProtocolServer


async def asked(service: RunnerProcess, verb: str, **fields: object) -> dict:
    return await asyncio.to_thread(ask_once, service.config, verb, **fields)


async def command(service: RunnerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "nautilus_runner", *words, "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=60,
    )


async def listening(service: RunnerProcess) -> dict:
    """Its status, once it answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await asked(service, "status")
            except NotRunning:
                await asyncio.sleep(0.02)


async def test_only_its_own_user_may_speak_with_the_service(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    await listening(service)
    assert stat.S_IMODE((service.data_dir / NAME).stat().st_mode) == 0o600
    assert (await asked(service, "status"))["pid"] == service.process.pid  # type: ignore[union-attr]
    with pytest.raises(ControlRefused, match="does not know 'dance'"):
        await asked(service, "dance")


async def test_without_a_service_a_command_says_so(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    with pytest.raises(NotRunning, match="no runner is running"):
        await asked(service, "status")
    said = await command(service, "drain")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1


async def test_a_drained_machine_ends_its_jobs_and_takes_none_until_told_also_after_a_restart(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    go = service.data_dir / "go"
    running = server.add_job(job_payload(script=["echo begun", f"while [ ! -e {go} ]; do sleep 0.05; done"]))
    service.configure(server.url)
    service.start()
    await server.until(lambda: "begun" in running.log)
    waiting = asyncio.create_task(command(service, "drain", "--wait", "--json"))
    async with asyncio.timeout(60):
        while (await asked(service, "status"))["state"] != "draining":
            await asyncio.sleep(0.02)
    second = server.add_job(job_payload())
    go.touch()
    assert json.loads((await waiting).stdout)["jobs"] == []
    assert (await server.finished(running)).status == "success"
    await service.kill()
    service.start()
    assert (await listening(service))["state"] == "draining"
    assert second.claims == 0
    assert (await command(service, "drain", "--undo")).stdout == "takes jobs again\n"
    assert (await server.finished(second)).status == "success"


WORKER = """
mkdir -p "$NAUTILUS_CHECKPOINT_DIR"
step=$(cat "$NAUTILUS_CHECKPOINT_DIR/step" 2>/dev/null || echo 0)
trap 'echo "$((step + 1))" > "$NAUTILUS_CHECKPOINT_DIR/step"; echo saved; exit 0' TERM
echo "begins at step $step"
[ "$step" = 0 ] || exit 0
while :; do sleep 0.05; done
"""


def attempt(script: str = WORKER, **parts: object) -> dict:
    """A job of pipeline 77, as each of its attempts comes."""
    return job_payload([script], variables=[variable("CI_PIPELINE_ID", "77")], **parts)  # type: ignore[arg-type]


async def test_a_preempted_job_saves_its_work_goes_back_and_the_next_attempt_has_it(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url, process={"user": JOB_USER, "grace_s": 60.0})
    service.start()
    first = server.add_job(attempt())
    await server.until(lambda: "begins at step 0" in first.log)
    said = await command(service, "preempt", str(first.id))
    assert said.returncode == 0, said.stderr
    await server.finished(first)
    assert "saved" in first.log
    assert "The checkpoint is kept for the next attempt" in first.log
    assert (first.finals[-1]["failure_reason"], first.finals[-1]["requeue"]) == ("runner_interrupted", True)
    second = server.add_job(attempt())
    await server.finished(second)
    assert f"The checkpoint of job {first.id} is in .nautilus/checkpoint" in second.log
    assert "begins at step 1" in second.log
    assert second.status == "success"
    third = server.add_job(attempt("test ! -e $NAUTILUS_CHECKPOINT_DIR"))
    assert (await server.finished(third)).status == "success", "after success the next one begins anew"


async def test_an_unknown_job_can_t_be_preempted(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    await listening(service)
    said = await command(service, "preempt", "4711")
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert "job 4711 is not on this runner" in said.stderr


async def test_told_to_drain_it_ends_with_its_last_job_and_takes_no_other(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    go = service.data_dir / "go"
    service.configure(server.url)
    service.config.write_text('on_stop = "drain"\n' + service.config.read_text())
    service.start()
    running = server.add_job(job_payload(["echo begun", f"while [ ! -e {go} ]; do sleep 0.05; done"]))
    await server.until(lambda: "begun" in running.log)
    service.send(signal.SIGTERM)
    await stopping(service)
    other = server.add_job(job_payload())
    go.touch()
    assert await service.wait() == 0
    assert (running.status, other.claims) == ("success", 0)


async def test_a_second_signal_while_it_drains_hands_back_what_has_not_begun_and_leaves_the_rest(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    go = service.data_dir / "go"
    service.configure(server.url, concurrent=2)
    service.start()
    running = server.add_job(
        job_payload(["echo begun", f"while [ ! -e {go} ]; do sleep 0.05; done", "echo end"])
    )
    await server.until(lambda: "begun" in running.log)
    silent = silent_listener()
    address = f"http://127.0.0.1:{silent.getsockname()[1]}/group/project.git"
    git_info = {**job_payload()["git_info"], "repo_url": address, "sha": "1" * 40}
    waiting = server.add_job(job_payload(sha="1" * 40, git_info=git_info))
    await server.until(lambda: "Fetching changes" in waiting.log)
    service.send(signal.SIGUSR1)
    await stopping(service)
    service.send(signal.SIGTERM)
    assert await service.wait() == 0
    silent.close()
    assert waiting.finals[-1]["requeue"] is True
    assert running.finals == []
    go.touch()
    service.start()
    assert (await server.finished(running)).status == "success"
    assert running.log.count("begun\n") == 1


async def test_it_ends_when_it_has_been_idle_and_after_so_many_jobs(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url, concurrent=4)
    service.config.write_text("exit_after_jobs = 2\n" + service.config.read_text())
    jobs = [server.add_job(job_payload()) for _ in range(3)]
    service.start()
    assert await service.wait() == 0
    assert sorted(job.claims for job in jobs) == [0, 1, 1]
    service.configure(server.url)
    service.config.write_text("exit_when_idle_s = 0.5\n" + service.config.read_text())
    service.start()
    assert await service.wait() == 0
    assert [job.status for job in jobs] == ["success"] * 3


async def stopping(service: RunnerProcess) -> None:
    async with asyncio.timeout(60):
        while (await asked(service, "status"))["state"] != "stopping":
            await asyncio.sleep(0.02)


@pytest.mark.docker
async def test_a_preempted_container_s_checkpoint_is_in_the_next_container(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    docker = {"image": "debian:trixie-slim", "pull_policy": ["never"], "grace_s": 60.0}
    service.configure(server.url, executor="docker", docker=docker, process={})
    service.start()
    first = server.add_job(attempt())
    await server.until(lambda: "begins at step 0" in first.log)
    assert (await command(service, "preempt", str(first.id))).returncode == 0
    await server.finished(first)
    assert (first.finals[-1]["failure_reason"], first.finals[-1]["requeue"]) == ("runner_interrupted", True)
    second = server.add_job(attempt())
    await server.finished(second)
    assert "begins at step 1" in second.log
    assert second.status == "success"
