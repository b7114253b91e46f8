"""A runner that does nothing but speak the runner protocol, and files for a project's first commit."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import httpx

FEATURES = dict.fromkeys(
    (
        "variables",
        "image",
        "services",
        "artifacts",
        "cache",
        "upload_multiple_artifacts",
        "upload_raw_artifacts",
        "refspecs",
        "masking",
        "raw_variables",
        "artifacts_exclude",
        "multi_build_steps",
        "trace_reset",
        "trace_checksum",
        "trace_size",
        "cancelable",
        "return_exit_code",
    ),
    True,
)
"""What a gitlab-runner says that it can do, without graceful cancelling and two-phase claims."""


@dataclass
class TakenJob:
    """A job that a `FakeRunner` has. `sent`: its log so far."""

    runner: FakeRunner
    payload: dict[str, Any]
    sent: bytes = b""

    @property
    def id(self) -> int:
        return int(self.payload["id"])

    @property
    def token(self) -> str:
        return str(self.payload["token"])

    @property
    def name(self) -> str:
        return str(self.payload["job_info"]["name"])

    def variable(self, key: str) -> str | None:
        """The value that the runner would set: the last one wins."""
        found = [v["value"] for v in self.payload["variables"] if v["key"] == key]
        return found[-1] if found else None

    def patch(self, data: bytes, start: int | None = None) -> httpx.Response:
        """Sends a piece of log, at the end unless `start` says otherwise."""
        at = len(self.sent) if start is None else start
        answer = self.runner.http.patch(
            f"/jobs/{self.id}/trace",
            content=data,
            headers={
                "JOB-TOKEN": self.token,
                "Content-Type": "text/plain",
                "Content-Range": f"{at}-{at + len(data) - 1}",
            },
        )
        if answer.status_code == 202:
            self.sent = self.sent[:at] + data
        return answer

    def put(self, state: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return self.runner.http.put(
            f"/jobs/{self.id}", json={"token": self.token, "state": state, **more}, headers=headers
        )

    def finish(self, state: str = "success", **more: Any) -> httpx.Response:
        """As a real runner ends a job: with the checksum of its log."""
        checksum = f"crc32:{zlib.crc32(self.sent):08x}"
        output = {"checksum": checksum, "bytesize": len(self.sent)}
        return self.put(state, checksum=checksum, output=output, **more)

    def upload(self, content: bytes, filename: str = "artifacts.zip", **query: str) -> httpx.Response:
        query = {"artifact_format": "zip", "artifact_type": "archive", **query}
        return self.runner.http.post(
            f"/jobs/{self.id}/artifacts",
            params=query,
            files={"file": (filename, content, "application/octet-stream")},
            headers={"JOB-TOKEN": self.token},
        )

    def download(self, dependency: dict[str, Any]) -> httpx.Response:
        return self.runner.http.get(
            f"/jobs/{dependency['id']}/artifacts",
            params={"direct_download": "true"},
            headers={"JOB-TOKEN": dependency["token"]},
        )


@dataclass
class FakeRunner:
    """`last_update`: what the server said last; empty asks anew."""

    http: httpx.Client
    token: str
    id: int
    system_id: str = "s_fake"
    features: dict[str, bool] = field(default_factory=lambda: dict(FEATURES))
    last_update: str = ""

    def ask(self, *, last_update: str | None = None, **more: Any) -> httpx.Response:
        """POST /jobs/request, once; held when there is a `last_update`."""
        told = self.last_update if last_update is None else last_update
        answer = self.http.post(
            "/jobs/request",
            json={
                "token": self.token,
                "system_id": self.system_id,
                "info": {
                    "name": "fake",
                    "version": "1.0",
                    "platform": "linux",
                    "architecture": "amd64",
                    "executor": "shell",
                    "features": self.features,
                },
                **({"last_update": told} if told else {}),
                **more,
            },
        )
        self.last_update = answer.headers.get("x-gitlab-last-update", self.last_update)
        return answer

    def take(self) -> TakenJob | None:
        """A job, None where there is none now."""
        answer = self.ask(last_update="")
        if answer.status_code == 204:
            return None
        if answer.status_code != 201:
            raise AssertionError(f"{answer.status_code}: {answer.text}")
        return TakenJob(self, answer.json())

    def take_one(self) -> TakenJob:
        """A job that must be there."""
        job = self.take()
        if job is None:
            raise AssertionError("there is no job for the runner")
        return job

    def run(self, log: bytes = b"done\n", state: str = "success", **more: Any) -> TakenJob:
        """Takes a job and ends it."""
        job = self.take_one()
        job.patch(log)
        answer = job.finish(state, **more)
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code}: {answer.text}")
        return job


def register(url: str, registration_token: str, **more: Any) -> FakeRunner:
    """A runner that has registered at the forge `url`."""
    http = httpx.Client(base_url=f"{url}/api/v4", timeout=90)
    answer = http.post("/runners", json={"token": registration_token, "description": "fake", **more})
    if answer.status_code != 201:
        raise AssertionError(f"{answer.status_code}: {answer.text}")
    body = answer.json()
    return FakeRunner(http, body["token"], body["id"])
