"""The runner without root: jobs run as the same user, and that is said."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nautilus_runner
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.executors.processes import account_of
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import config_text, processes_with
from nautilus_runner.testing.server import ProtocolServer, printed

USER = "nobody"


def interpreter() -> tuple[str, dict[str, str]]:
    """A python that `nobody` can start, with our packages; this one's folder may be closed to others."""
    packages = os.pathsep.join(
        [sysconfig.get_paths()["purelib"], str(Path(nautilus_runner.__file__).parents[1])]
    )
    for path in (sys.executable, shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin") or ""):
        env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": packages, "HOME": "/nonexistent"}
        probe = [path, "-c", "import httpcore, pydantic, nautilus_runner"]
        try:
            subprocess.run(
                probe, env=env, user=USER, group=pwd.getpwnam(USER).pw_gid, extra_groups=[], check=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return path, env
    pytest.skip("no python that another user can start")


@pytest.fixture
def home() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can become an ordinary user; as one, all other tests already run like this")
    folder = Path(tempfile.mkdtemp(prefix="nautilus-runner-", dir="/tmp"))
    shutil.chown(folder, USER)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ordinary(
    server: ProtocolServer, home: Path, request: pytest.FixtureRequest
) -> Iterator[subprocess.Popen[bytes]]:
    """Its parameter is `runners.process.sandbox`."""
    process = {"user": "nautilus-job", "grace_s": 1.0, "sandbox": getattr(request, "param", "off")}
    python, env = interpreter()
    config = home / "config.toml"
    config.write_text(config_text(server.url, home, process=process))
    shutil.chown(config, USER)
    log = (home / "runner.log").open("wb")
    running = subprocess.Popen(
        [python, "-m", "nautilus_runner", "run", "--config", str(config)],
        stdout=log, stderr=log, env=env, cwd="/", user=USER, group=pwd.getpwnam(USER).pw_gid, extra_groups=[],
    )  # fmt: skip
    yield running
    running.terminate()
    running.wait(20)


async def test_jobs_run_as_the_runner_itself_and_the_log_says_so(
    server: ProtocolServer, ordinary: subprocess.Popen[bytes]
) -> None:
    job = server.add_job(job_payload(["id -un", "echo x > f; cat f"]))
    await server.finished(job)
    assert job.status == "success", job.log
    assert f"\n{USER}\n" in job.log
    assert f"Running as user {USER}: jobs are not isolated from this account." in job.log


@pytest.mark.parametrize("ordinary", ["require"], indirect=True)
async def test_a_sandbox_leads_to_the_server_alone_without_root_too(
    server: ProtocolServer, ordinary: subprocess.Popen[bytes]
) -> None:
    reason = Sandboxes().verdict(account_of(USER)).reason
    if reason:
        pytest.skip(f"no sandbox here: {reason}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = (server.port, other.getsockname()[1])
        tries = [
            f"if (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; then echo got; else echo refused; fi"
            for port in ports
        ]
        job = server.add_job(job_payload(tries, variables=[variable("NAUTILUS_NETWORK", "internal")]))
        await server.finished(job)
    assert job.status == "success" and printed(job) == ["got", "refused"], job.log


async def test_a_job_that_kills_its_supervisor_takes_nothing_with_it(
    server: ProtocolServer, ordinary: subprocess.Popen[bytes]
) -> None:
    """The same user may kill the warden: it is a system failure, and what is left of the job is ended."""
    script = ["(setsid sleep 779.1 &)", "sleep 0.2; kill -9 $(ps -o ppid= -p $$); sleep 60"]
    job = server.add_job(job_payload(script))
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "runner_system_failure", job.log
    assert "the job's supervisor was killed" in job.log
    assert not processes_with("779.1")
    following = server.add_job(job_payload())
    await server.finished(following)
    assert following.status == "success"
