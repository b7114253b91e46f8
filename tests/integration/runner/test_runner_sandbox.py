"""Process jobs in bubblewrap: a job tries what it must not have."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from nautilus_runner.executors import processes
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunnerProcess, RunningAgent
from nautilus_runner.testing.server import ProtocolServer, printed

SANDBOXED = {"process": {"user": JOB_USER, "grace_s": 2.0, "sandbox": "require"}}


@pytest.fixture(autouse=True)
def sandbox() -> None:
    if reason := Sandboxes().verdict(processes.account_of(JOB_USER)).reason:
        pytest.skip(f"no sandbox here: {reason}")


def trying(*commands: str) -> list[str]:
    """Each command's outcome as a line: `got` where it worked."""
    return [f"if {command} >/dev/null 2>&1; then echo got; else echo refused; fi" for command in commands]


async def test_a_job_sees_no_other_jobs_files_no_runners_no_homes_and_no_sockets(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path, tmp_path: Path
) -> None:
    (data_dir / "canary").write_text("for the runner alone")
    (data_dir / "canary").chmod(0o644)
    shared_socket = Path("/run") / f"nautilus-test-{os.getpid()}.sock"
    listening = socket.socket(socket.AF_UNIX)
    if os.geteuid() == 0:
        listening.bind(str(shared_socket))
        shared_socket.chmod(0o666)
    try:
        await runner.start(server.url, **SANDBOXED)
        other = server.add_job(job_payload(["echo secret > mine; chmod 644 mine; echo begun; sleep 600"]))
        await server.until(lambda: b"\nbegun\n" in other.trace)
        [folder] = (data_dir / "builds").iterdir()
        script = trying(
            f"cat {data_dir}/canary",
            f"cat {folder}/group/project/mine",
            f"test $(ls {data_dir}/builds | wc -l) -gt 1",
            f"test -e {shared_socket}",
            "test -S /var/run/docker.sock",
            "ls /root /home",
            "touch /usr/x /etc/x",
            f"kill -0 {os.getpid()}",
            "mount -t tmpfs none /usr",
        )
        script += ["ls -d /proc/[0-9]* | wc -l | tr -d ' ' > count; test $(cat count) -lt 12 && echo alone"]
        script += ["echo own > /tmp/mine; cat /tmp/mine; id -un"]
        job = await server.finished(server.add_job(job_payload(script)))
        assert job.status == "success", job.log
        assert printed(job) == [*["refused"] * 9, "alone", "own", JOB_USER], job.log
        assert "isolated by bubblewrap" in job.log
        server.cancel(other, force=True)
        await server.finished(other)
    finally:
        listening.close()
        shared_socket.unlink(missing_ok=True)


async def test_a_job_without_network_has_none_not_even_the_machines_loopback(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    port = server.url.rpartition(":")[2]
    reach = trying(f"timeout 5 bash -c ': < /dev/tcp/127.0.0.1/{port}'")
    await runner.start(server.url, **SANDBOXED)
    with_network = await server.finished(server.add_job(job_payload(reach)))
    none = [variable("NAUTILUS_NETWORK", "none")]
    without = await server.finished(server.add_job(job_payload(reach, variables=none)))
    assert printed(with_network) == ["got"] and printed(without) == ["refused"]


async def test_a_job_is_asked_to_end_before_it_is_killed_and_its_exit_code_is_its_own(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    await runner.start(server.url, process={**SANDBOXED["process"], "grace_s": 60.0})
    job = server.add_job(job_payload(["trap 'echo asked; exit 3' TERM; echo begun; sleep 600 & wait"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    server.cancel(job)
    await server.finished(job)
    assert "\nasked\n" in job.log
    failed = await server.finished(server.add_job(job_payload(["exit 42"])))
    assert failed.finals[-1]["exit_code"] == 42


async def test_after_script_is_in_the_sandbox_also_after_a_restart_of_the_runner(
    server: ProtocolServer, service: RunnerProcess, data_dir: Path
) -> None:
    (data_dir / "canary").write_text("x")
    (data_dir / "canary").chmod(0o644)
    service.configure(server.url, **SANDBOXED)
    service.start()
    after = trying(f"cat {data_dir}/canary")
    job = server.add_job(
        job_payload(["echo begun; while [ ! -e go ]; do sleep 0.1; done"], after_script=after)
    )
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await service.kill()
    [folder] = (data_dir / "builds").iterdir()
    (folder / "group" / "project" / "go").touch()
    service.start()
    await server.finished(job)
    assert job.status == "success" and "\nrefused\n" in job.log, job.log


async def test_a_runner_that_requires_a_sandbox_runs_nothing_without(
    server: ProtocolServer, runner: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    await runner.start(server.url, **SANDBOXED)
    job = await server.finished(server.add_job(job_payload(["echo ran"])))
    assert job.status == "failed" and "\nran\n" not in job.log
    assert "install bubblewrap (`apt-get install bubblewrap`)" in job.log
