"""The program itself: `python -m nautilus_forge` on its socket, as supervisord runs it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus.appliance import schema
from nautilus_forge.testing.server import ADMIN_TOKEN


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("forge")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def get(path: Path, target: str, **headers: str) -> tuple[int, dict[str, object]]:
    connection = UnixConnection(path)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


class Program:
    def __init__(self, folder: Path, database_url: str) -> None:
        self.socket = folder / "forge.sock"
        (folder / "token").write_text(ADMIN_TOKEN)
        self.env = os.environ | {
            "FORGE_DATABASE_URL": database_url,
            "FORGE_DATA_DIR": str(folder / "data"),
            "FORGE_SOCKET": str(self.socket),
            "FORGE_ADMIN_TOKEN_FILE": str(folder / "token"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nautilus_forge"], env=self.env, stderr=subprocess.PIPE, text=True
        )

    def wait(self, status: int, limit_s: float = 60) -> dict[str, object]:
        """The readiness answer, once it has this status."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                seen, body = get(self.socket, "/-/readiness")
                if seen == status:
                    return body
            except OSError:
                assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        raise AssertionError(f"no {status} within {limit_s} s")

    def end(self, how: int = signal.SIGTERM) -> float:
        """Seconds until it is gone."""
        begun = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(20)
        return time.monotonic() - begun


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


def test_it_serves_its_socket_and_ends_at_once(
    programs: list[Program], tmp_path: Path, forge_database_url: str
) -> None:
    program = Program(tmp_path, forge_database_url)
    programs.append(program)
    assert program.wait(200) == {"status": "ok"}
    assert get(program.socket, "/api/v4/user", **{"PRIVATE-TOKEN": ADMIN_TOKEN})[1]["username"] == "root"
    assert program.end() < 2
    assert program.process.returncode == 0


def test_it_waits_for_the_schema_and_says_so(
    programs: list[Program], tmp_path: Path, empty_database_url: str
) -> None:
    program = Program(tmp_path, empty_database_url)
    programs.append(program)
    assert program.wait(503)["status"] == "failed"
    status, body = get(program.socket, "/api/v4/version")
    assert status == 503
    assert "503 Service Unavailable" in str(body["message"])
    name, _, query = empty_database_url.removeprefix("postgresql+psycopg://nautilus@/").partition("?")
    schema.ensure_schema(f"host={query.removeprefix('host=')} user=nautilus dbname={name}", "forge")
    program.wait(200)


def test_it_waits_for_the_database(programs: list[Program], tmp_path: Path) -> None:
    program = Program(tmp_path, f"postgresql+psycopg://nautilus@/x?host={tmp_path}")
    programs.append(program)
    assert "database" in str(program.wait(503)["reason"])
    assert program.end() < 2


def test_a_second_start_changes_nothing(
    programs: list[Program], tmp_path: Path, forge_database_url: str
) -> None:
    for _ in range(2):
        program = Program(tmp_path, forge_database_url)
        programs.append(program)
        program.wait(200)
        answer = get(program.socket, "/api/v4/personal_access_tokens", **{"PRIVATE-TOKEN": ADMIN_TOKEN})
        assert len(answer[1]) == 1
        program.end(signal.SIGKILL)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    ended = subprocess.run(
        [sys.executable, "-m", "nautilus_forge"], env=env, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "FORGE_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
