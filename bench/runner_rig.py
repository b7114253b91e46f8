"""A server of the runner protocol and a runner in its own process: ours, or a stock gitlab-runner as the yardstick.

The server is the one of the runner's tests, in this process; a job is "given" at the moment at which it answers.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import JOB_USER, config_text
from nautilus_runner.testing.server import RUNNER_TOKEN, ProtocolServer, ServedJob
from nautilus_runner.testing.stock import PROGRAM

IMAGE = "debian:trixie-slim"
HELPER_IMAGE = "nautilus-bench-helper"
KNOWN_S = 0.05
"""From a job's last line to its result at the server, at most, beside what a daemon needs to notice the end."""
_STOCK_CONFIG = """\
concurrent = {concurrent}
check_interval = 1
shutdown_timeout = 1
[[runners]]
  name = "stock"
  url = "{url}"
  token = "{token}"
  output_limit = 1048576
"""
_STOCK_SHELL = """\
  executor = "shell"
  builds_dir = "{home}/builds"
  cache_dir = "{home}/cache"
"""
_STOCK_DOCKER = f"""\
  executor = "docker"
  [runners.docker]
    image = "{IMAGE}"
    pull_policy = "never"
    helper_image = "{HELPER_IMAGE}"
    disable_cache = true
"""


@dataclass(frozen=True)
class Rig:
    """`pid` is the runner's own process; `home` is readable by a job's user."""

    server: ProtocolServer
    pid: int
    home: Path

    async def run(self, script: Sequence[str], timeout_s: float = 120.0, **parts: Any) -> ServedJob:
        """One job, to its end. Raises RuntimeError where it fails."""
        job = self.server.add_job(job_payload(script, **parts))
        await self.server.finished(job, timeout_s)
        if job.status != "success":
            raise RuntimeError(f"the job ended as {job.status}: {job.log[-800:]}")
        return job


@asynccontextmanager
async def running(executor: str, concurrent: int = 1) -> AsyncIterator[Rig]:
    """`executor`: process or docker; with `stock ` before it those of gitlab-runner (its shell executor for processes,
    for containers one that finds HELPER_IMAGE). Ready when it asks for jobs."""
    home = Path(tempfile.mkdtemp(prefix="nautilus-bench-runner-", dir="/var/tmp"))
    home.chmod(0o711)
    async with ProtocolServer(home / "repositories") as server:
        process = await asyncio.to_thread(_start, executor, server.url, home, concurrent)
        try:
            await _asked(server)
            yield Rig(server, process.pid, home)
        finally:
            process.send_signal(signal.SIGTERM if executor.startswith("stock") else signal.SIGQUIT)
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
            shutil.rmtree(home, ignore_errors=True)


async def _asked(server: ProtocolServer) -> None:
    async with asyncio.timeout(30):
        while not server.last_requests:
            await asyncio.sleep(0.01)


def _start(executor: str, url: str, home: Path, concurrent: int) -> subprocess.Popen[bytes]:
    config = home / "config.toml"
    if executor.startswith("stock"):
        text = _STOCK_CONFIG + (_STOCK_DOCKER if executor == "stock docker" else _STOCK_SHELL)
        config.write_text(text.format(concurrent=concurrent, url=url, token=RUNNER_TOKEN, home=home))
        argv = [PROGRAM, "run", "--config", str(config), "--working-directory", str(home)]
    else:
        parts: dict[str, Any] = {
            "docker": {"image": IMAGE, "pull_policy": ["never"]} if executor == "docker" else {},
            "process": {"user": JOB_USER, "sandbox": "auto"},  # as a runner has it that is told nothing
        }
        config.write_text(config_text(url, home, concurrent=concurrent, executor=executor, **parts))
        argv = [sys.executable, "-m", "nautilus_runner", "run", "--config", str(config)]
    with (home / "runner.log").open("wb") as log:
        return subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)


def given_at(job: ServedJob) -> float:
    """Wall-clock seconds at which the server answered with the job."""
    return job.claimed_at + (time.time() - asyncio.get_running_loop().time())


def stamps(job: ServedJob) -> dict[str, float]:
    """What the job's script stamped: lines `stamp NAME SECONDS`."""
    words = [line.split() for line in job.log.splitlines() if line.startswith("stamp ")]
    return {name: float(at) for _, name, at in words}


def stamp(name: str) -> str:
    """A line of script that says when it ran, without starting a process."""
    return f'echo "stamp {name} $EPOCHREALTIME"'


async def latency(rig: Rig) -> tuple[float, float]:
    """Seconds from the server's answer to the first line of the script, and from its last line to the result."""
    job = await rig.run([stamp("first"), stamp("last")])
    ended_at = time.time()
    found = stamps(job)
    return found["first"] - given_at(job), ended_at - found["last"]


def in_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
