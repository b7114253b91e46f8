"""Runners for tests: inside the test's own event loop, or as the real service that can be killed."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nautilus_runner.agent import Agent
from nautilus_runner.config_file import runner_block
from nautilus_runner.settings import Settings, parse_settings
from nautilus_runner.testing.server import RUNNER_TOKEN

JOB_USER = "nobody"


def config_text(
    url: str,
    data_dir: Path,
    *,
    concurrent: int = 2,
    executor: str = "process",
    tables: str = "",
    **fields: Any,
) -> str:
    """`tables` is TOML that stands behind all registrations; `gpu_…` are settings of the machine."""
    machine = {name: fields.pop(name) for name in [*fields] if name.startswith("gpu")}
    process = {"sandbox": "off", **fields.pop("process", {"user": JOB_USER, "grace_s": 2.0})}
    docker = fields.pop("docker", {})
    limits = fields.pop("limits", {})
    head = f'concurrent = {concurrent}\nstatus_file = "{data_dir}/status.json"\ndata_dir = "{data_dir}"\n'
    head += "".join(f"{name} = {json.dumps(value)}\n" for name, value in machine.items()) + "\n"
    entry = {"name": "bundled", "id": 1, "url": url, "token": RUNNER_TOKEN, "executor": executor, **fields}
    return head + runner_block(entry, {"process": process, "docker": docker, "limits": limits}) + tables


def settings_for(url: str, data_dir: Path, **options: Any) -> Settings:
    return parse_settings(config_text(url, data_dir, **options), data_dir)


class RunningAgent:
    """The runner inside the test's own event loop."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.agent: Agent | None = None

    async def start(self, url: str, **options: Any) -> Agent:
        return await self.start_with(settings_for(url, self.data_dir, **options))

    async def start_with(self, settings: Settings) -> Agent:
        self.agent = Agent(self.data_dir)
        await self.agent.start(settings)
        return self.agent

    async def stop(self) -> None:
        if self.agent is not None:
            await self.agent.end_jobs(5.0)
            self.agent = None


class RunnerProcess:
    """The runner as its own process, as the service is run; it can be killed."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.config = data_dir / "config.toml"
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, url: str, **options: Any) -> None:
        self.config.write_text(config_text(url, self.data_dir, **options))

    def start(self) -> None:
        log = (self.data_dir / "runner.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nautilus_runner", "run", "--config", str(self.config)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self, timeout_s: float = 60.0) -> int:
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.log()
            await asyncio.sleep(0.02)
        return self.process.returncode

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.wait()

    async def end(self) -> None:
        """At once and in order where it runs and can, else by force."""
        if self.process is None or self.process.poll() is not None:
            return
        self.send(signal.SIGQUIT)
        try:
            await self.wait(30.0)
        except AssertionError:
            await self.kill()

    def log(self) -> str:
        return (self.data_dir / "runner.log").read_text(errors="replace")


def processes_with(argument: str) -> list[int]:
    """The processes of this machine that have `argument` among the words of their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def silent_listener() -> socket.socket:
    """A port where connections are taken and nothing is ever said."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener
