"""What watches a stock gitlab-runner tells health how it is, begins and ends with it. The program is a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.health.probes import ComponentState, runner_component
from nautilus.testing.stub_server import Answer, StubServer, stub_server

PROGRAM = """#!/bin/sh
if [ "$1" = --version ]; then echo 'Version:      16.11.0'; exit; fi
trap 'echo ended >> "$5/ended"; exit 0' TERM
while :; do
    if mv "$5/say" "$5/saying" 2>/dev/null; then cat "$5/saying"; fi
    if [ -e "$5/die" ]; then exit 3; fi
    sleep 0.05
done
"""


class Watched:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "gitlab-runner"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nautilus.appliance.stock_runner_watch", str(self.program), str(folder)],
            env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT / "services")},
            stdout=subprocess.PIPE,
        )

    def configure(self, url: str) -> None:
        (self.folder / "gpus.json").write_text('[{"uuid": "GPU-aa", "name": "H200", "memory_mib": 1}]')
        new = self.folder / "new.toml"
        new.write_text(f'concurrent = 3\n[[runners]]\nurl = "{url}"\ntoken = "glrt-x"\n')
        new.replace(self.folder / "gitlab-runner.toml")

    def say(self, **fields: object) -> None:
        new = self.folder / "new"
        new.write_text(json.dumps(fields) + "\n")
        new.replace(self.folder / "say")

    @property
    def status(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / "status.json").read_text()))
        except FileNotFoundError:
            return {}

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not holds(status := self.status):
            assert time.monotonic() < deadline, status
            assert self.process.poll() is None, "it ended"
            time.sleep(0.02)
        return status


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path)
    yield found
    if found.process.poll() is None:
        found.process.send_signal(signal.SIGTERM)
        found.process.wait(20)


@pytest.fixture
def server() -> Iterator[StubServer]:
    with stub_server({"/api/v4/runners/verify": Answer(200, b'{"id": 1}')}) as stub:
        yield stub


def test_it_waits_for_the_configuration_of_this_start(watched: Watched, server: StubServer) -> None:
    status = watched.until(lambda s: "waiting for gitlab-runner.toml" in s.get("reason", ""))
    assert status["state"] == "connecting"
    watched.configure(server.url)
    status = watched.until(lambda s: s["state"] == "ready")
    assert (status["version"], status["slots"]["total"], status["gpus"][0]["uuid"]) == (
        "16.11.0",
        3,
        "GPU-aa",
    )
    assert runner_component(watched.folder / "status.json").state is ComponentState.READY


def test_its_jobs_are_seen(watched: Watched, server: StubServer) -> None:
    watched.configure(server.url)
    watched.until(lambda s: s.get("state") == "ready")
    watched.say(msg="Checking for jobs... received", job=41)
    assert watched.until(lambda s: s["slots"]["busy"] == 1)["jobs"][0]["id"] == 41
    watched.say(msg="Job succeeded", job=41)
    watched.until(lambda s: s["slots"]["busy"] == 0)


def test_a_server_that_knows_it_no_more_is_told_and_its_return_too(watched: Watched) -> None:
    watched.configure("http://127.0.0.1:9")
    watched.until(lambda s: "does not answer" in s.get("reason", ""))
    with stub_server({"/api/v4/runners/verify": Answer(403)}) as stub:
        watched.configure(stub.url)
        watched.until(lambda s: "does not know this runner" in s["reason"])
    with stub_server({"/api/v4/runners/verify": Answer(200)}) as stub:
        watched.configure(stub.url)
        watched.until(lambda s: s["state"] == "ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_they_end_together(watched: Watched, server: StubServer, number: signal.Signals) -> None:
    watched.configure(server.url)
    watched.until(lambda s: s.get("state") == "ready")
    watched.process.send_signal(number)
    assert watched.process.wait(20) == 0
    assert (watched.folder / "ended").read_text() == "ended\n"


def test_where_it_ends_by_itself_the_supervisor_is_to_know(watched: Watched, server: StubServer) -> None:
    watched.configure(server.url)
    watched.until(lambda s: s.get("state") == "ready")
    (watched.folder / "die").touch()
    assert watched.process.wait(20) == 3


def test_it_can_be_ended_while_it_still_waits(watched: Watched) -> None:
    watched.until(lambda s: bool(s))
    watched.process.send_signal(signal.SIGTERM)
    assert watched.process.wait(20) == 0
