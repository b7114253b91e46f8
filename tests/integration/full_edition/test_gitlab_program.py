"""The program `gitlab` with services that misbehave: it ends in its time, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nautilus.appliance.errors import StepFailed
from nautilus.appliance.gitlab import Program, environment
from nautilus.appliance.layout import Layout
from nautilus.appliance.omnibus import database
from nautilus.appliance.omnibus.package import Omnibus
from nautilus.appliance.plan import Plan
from nautilus.testing.omnibus.package import here

STUBBORN = "#!/bin/sh\ntrap '' TERM HUP INT\ntouch {up}\nwhile :; do sleep 1; done\n"
PLAN = Plan({"ssh": 22}, [], "http://localhost", "http://localhost:10080", "process", "", "", 1)


class Running:
    """A Program in a thread, with the error that it ended by."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.program.run()
        except Exception as error:
            self.error = error

    def end(self, within_s: float) -> float:
        """Seconds from the wish to the end."""
        began = time.monotonic()
        self.program.ask_to_end()
        self._thread.join(within_s)
        assert not self._thread.is_alive(), f"it has not ended within {within_s} s"
        return time.monotonic() - began

    def join(self, within_s: float) -> None:
        self._thread.join(within_s)
        assert not self._thread.is_alive()


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nautilus-gitlab-", dir="/tmp") as folder:
        yield Path(folder)
        for pid in left(Path(folder)):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def package(place: Path) -> Omnibus:
    return here(place / "root")


@pytest.fixture
def program(place: Path, package: Omnibus, monkeypatch: pytest.MonkeyPatch) -> Program:
    """GitLab's database is said to be there and new."""
    monkeypatch.setattr(database, "is_prepared", lambda server: True)
    monkeypatch.setattr(database, "is_empty", lambda server: True)
    layout = Layout(place / "home")
    for folder in (layout.run, layout.secrets):
        folder.mkdir(parents=True)
    for name in ("root_password", "registration_token"):
        layout.secret(name).write_text("x\n")
    return Program(layout, PLAN, package, "nautilus", has_registry=False, stop_s=1.0)


def commands(package: Omnibus, reconfigure: str) -> None:
    """A gitlab-ctl whose `stop` never works, and whose `reconfigure` is this."""
    package.etc.mkdir(parents=True, exist_ok=True)
    package.secrets_file.write_text("{}")
    package.ctl.write_text(f"#!/bin/sh\ncase $1 in\nreconfigure) {reconfigure} ;;\n*) sleep 60 ;;\nesac\n")


def stubborn(package: Omnibus, up: Path) -> None:
    service = package.services / "stubborn"
    service.mkdir(parents=True)
    (service / "run").write_text(STUBBORN.replace("{up}", str(up)))
    (service / "run").chmod(0o755)


def left(place: Path) -> list[int]:
    """Processes that were started from below the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(place).encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def wait_until(is_true: Callable[[], Any], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def state(program: Program) -> str:
    try:
        return str(json.loads(program.layout.gitlab_status.read_text())["state"])
    except (OSError, ValueError):
        return ""


def test_services_that_do_not_end_are_ended_in_time(program: Program, package: Omnibus, place: Path) -> None:
    commands(package, "true")
    stubborn(package, place / "up")
    running = Running(program)
    wait_until(lambda: (place / "up").exists() and state(program) == "running", "it runs")
    took_s = running.end(within_s=10)
    assert took_s < program.stop_s + 3, "PostgreSQL must still get its time within Docker's ten seconds"
    wait_until(lambda: not left(place / "root"), f"left: {left(place / 'root')}", within_s=2)
    assert running.error is None
    assert state(program) == "stopping"


def test_a_stop_in_the_middle_of_a_reconfigure_does_not_wait_for_it(
    program: Program, package: Omnibus, place: Path
) -> None:
    commands(package, "touch $0.began; sleep 60")
    running = Running(program)
    wait_until(Path(f"{package.ctl}.began").exists, "reconfigure has begun")
    running.end(within_s=10)
    wait_until(lambda: not left(place / "root"), f"left: {left(place / 'root')}", within_s=2)
    assert running.error is None


def test_a_reconfigure_that_fails_is_an_error_with_the_way_to_its_reason(
    program: Program, package: Omnibus, place: Path
) -> None:
    commands(package, "echo 'There was an error'; exit 3")
    running = Running(program)
    running.join(within_s=20)
    assert isinstance(running.error, StepFailed)
    assert "reconfigure failed with status 3" in str(running.error)
    assert "nautilus logs gitlab" in str(running.error)
    wait_until(lambda: not left(place / "root"), "nothing goes on below a failed start", within_s=2)


def test_a_supervisor_that_is_killed_is_an_error_and_its_services_end(
    program: Program, package: Omnibus, place: Path
) -> None:
    commands(package, "true")
    running = Running(program)
    wait_until(lambda: state(program) == "running", "it runs")
    pid = int((program.layout.run / "gitlab-runsvdir.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    running.join(within_s=10)
    assert isinstance(running.error, StepFailed) and "runsvdir ended" in str(running.error)


def test_the_first_secrets_are_gone_once_gitlab_has_read_them(program: Program, package: Omnibus) -> None:
    program.layout.secret("root_password").write_text("the-first-password\n")
    defaults = package.etc / "nautilus" / "defaults.rb"
    commands(package, f"grep -q the-first-password {defaults}")
    running = Running(program)
    wait_until(lambda: state(program) == "running", "it runs: reconfigure has seen the password")
    assert "the-first-password" not in defaults.read_text()
    running.end(within_s=10)


def test_a_first_boot_that_was_cut_off_has_its_secrets_still_the_next_time(
    program: Program, package: Omnibus, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.layout.secret("root_password").write_text("the-first-password\n")
    monkeypatch.setattr(database, "is_empty", lambda server: False)
    package.migrated_version_file.parent.mkdir(parents=True)
    package.migrated_version_file.write_text(package.version())
    commands(package, f"grep -q the-first-password {package.etc}/nautilus/defaults.rb")
    running = Running(program)
    wait_until(lambda: state(program) == "running", "it runs: reconfigure has seen the password")
    running.end(within_s=10)


def test_gitlabs_programs_get_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "NAUTILUS_HOME", "MALLOC_ARENA_MAX", "GITLAB_OMNIBUS_CONFIG"):
        monkeypatch.setenv(name, "ours")
    done = subprocess.run(["env"], env=environment(), capture_output=True, text=True, check=True)
    assert "ours" not in done.stdout
    assert "PATH=/opt/gitlab/bin:" in done.stdout
