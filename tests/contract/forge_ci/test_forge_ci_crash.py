"""The forge as a program of its own, killed at bad moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus_forge.testing.runner import FakeRunner, TakenJob
from nautilus_forge.testing.server import ADMIN_TOKEN, REGISTRATION_TOKEN, settings_for

CI = "stages: [a, b]\nfirst: {stage: a, script: [x]}\nsecond: {stage: b, script: [x]}\n"


@dataclass
class Program:
    """`python -m nautilus_forge` on a unix socket below `folder`."""

    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nautilus_forge"],
                env=self.environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        end = time.monotonic() + 60
        while True:
            try:
                if self.client().get("/../../-/readiness").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def client(self, **headers: str) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.folder / "forge.sock"))
        return httpx.Client(transport=transport, base_url="http://forge/api/v4", headers=headers, timeout=60)


@pytest.fixture
def program(forge_database_url: str, tmp_path: Path) -> Iterator[Program]:
    settings = settings_for(forge_database_url, tmp_path, 1)
    given = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "DATA_DIR": settings.data_dir,
        "SOCKET": settings.socket,
        "EXTERNAL_URL": settings.external_url,
        "ROOT_PASSWORD_FILE": settings.root_password_file,
        "ADMIN_TOKEN_FILE": settings.admin_token_file,
        "REGISTRATION_TOKEN_FILE": settings.registration_token_file,
    }
    environment = os.environ | {f"FORGE_{name}": str(value) for name, value in given.items()}
    made = Program(tmp_path, environment)
    made.start()
    yield made
    made.kill()


def taken(program: Program) -> tuple[TakenJob, dict[str, Any]]:
    admin = program.client(**{"PRIVATE-TOKEN": ADMIN_TOKEN})
    project = admin.post("/projects", json={"name": "digits"}).json()
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": CI}
    commit = {"branch": "main", "commit_message": "x", "actions": [action]}
    assert admin.post(f"/projects/{project['id']}/repository/commits", json=commit).status_code == 201
    http = program.client()
    made = http.post("/runners", json={"token": REGISTRATION_TOKEN}).json()
    return FakeRunner(http, made["token"], made["id"]).take_one(), project


def test_an_acknowledged_piece_of_log_survives_and_the_log_goes_on_from_there(program: Program) -> None:
    job, project = taken(program)
    assert job.patch(b"before the crash\n").status_code == 202
    program.kill()
    program.start()
    job.runner.http = program.client()
    answer = job.patch(b"after it\n")
    assert (answer.status_code, answer.headers["range"]) == (202, "0-26")
    assert job.finish().status_code == 200
    admin = program.client(**{"PRIVATE-TOKEN": ADMIN_TOKEN})
    log = admin.get(f"/projects/{project['id']}/jobs/{job.id}/trace").content
    assert log == b"before the crash\nafter it\n"


def test_a_result_is_stored_once_however_often_it_is_reported(program: Program) -> None:
    """The server dies when the runner reports; the runner reports again."""
    job, project = taken(program)
    job.patch(b"done\n")
    assert job.finish().status_code == 200
    program.kill()
    program.start()
    job.runner.http = program.client()
    again = job.finish()
    assert (again.status_code, again.headers["job-status"]) == (403, "success")
    admin = program.client(**{"PRIVATE-TOKEN": ADMIN_TOKEN})
    jobs = admin.get(f"/projects/{project['id']}/jobs").json()
    assert {j["name"]: j["status"] for j in jobs} == {"first": "success", "second": "pending"}


def test_a_damaged_log_is_found_and_mended_by_the_runner(program: Program) -> None:
    """Power went: the end of the log is gone. The runner hears 416 and goes on from what is there."""
    job, _ = taken(program)
    assert job.patch(b"0123456789").status_code == 202
    program.kill()
    log = program.folder / "data" / "traces" / "0" / f"{job.id}.log"
    os.truncate(log, 4)
    program.start()
    job.runner.http = program.client()
    refused = job.patch(b"abc")
    assert (refused.status_code, refused.headers["range"]) == (416, "0-4")
    assert job.patch(b"456789abc", start=4).status_code == 202
    whole = b"0123456789abc"
    output = {"checksum": f"crc32:{zlib.crc32(whole):08x}", "bytesize": len(whole)}
    assert job.put("success", output=output).status_code == 200
    assert log.read_bytes() == whole
