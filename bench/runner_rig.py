"""A server of the runner protocol and a runner in its own process: ours, or a stock gitlab-runner as the yardstick.

The server is the one of the runner's tests, in this process; a job is "given" at the moment at which it answers.
"""

from __future__ import annotations

import asyncio
import os
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

IMAGE = "debian:trixie-slim"
STOCK = os.environ.get("GITLAB_RUNNER_BIN") or shutil.which("gitlab-runner") or ""
_STOCK_CONFIG = """\
concurrent = {concurrent}
check_interval = 1
shutdown_timeout = 1
[[runners]]
  name = "stock"
  url = "{url}"
  token = "{token}"
  executor = "shell"
  output_limit = 1048576
  builds_dir = "{home}/builds"
  cache_dir = "{home}/cache"
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
    """`executor`: process, docker, or `stock` (gitlab-runner, shell executor). Ready when it asks for jobs."""
    home = Path(tempfile.mkdtemp(prefix="nautilus-bench-runner-", dir="/var/tmp"))
    home.chmod(0o711)
    async with ProtocolServer(home / "repositories") as server:
        process = await asyncio.to_thread(_start, executor, server.url, home, concurrent)
        try:
            await _asked(server)
            yield Rig(server, process.pid, home)
        finally:
            process.send_signal(signal.SIGQUIT if executor != "stock" else signal.SIGTERM)
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
    if executor == "stock":
        config.write_text(_STOCK_CONFIG.format(concurrent=concurrent, url=url, token=RUNNER_TOKEN, home=home))
        argv = [STOCK, "run", "--config", str(config), "--working-directory", str(home)]
    else:
        parts = {
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
