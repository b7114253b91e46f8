"""LFS objects and job artifacts of 256 MB, up and down through the gateway, against a bare nginx.

Ours is the whole appliance: nginx asks the forge first, spools the body, the forge checks what it is (of an LFS object
the SHA-256 too), makes it durable and writes its row. The yardstick is nginx's own WebDAV `PUT` and its plain files,
which check and sync nothing. The same client sends the same bytes to both in turns, by sendfile.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bench.bare import bare_nginx
from bench.figures import figure
from bench.git import Ours, appliance
from nautilus_forge.testing.runner import FakeRunner, TakenJob, register

_SIZE = 256 << 20
_LEAST = {"up": 0.6, "down": 0.95}
_YARDSTICK = "bare nginx"
_BOUNDARY = b"nautilusbench"
_CI = "job:\n  script: [bench]\n"


@dataclass(frozen=True)
class Sent:
    """What is sent: a file, with what stands before and after it in the body."""

    file: Path
    before: bytes = b""
    after: bytes = b""

    @property
    def length(self) -> int:
        return len(self.before) + self.file.stat().st_size + len(self.after)


def put(method: str, url: str, sent: Sent, headers: dict[str, str]) -> float:
    """Seconds until the answer, which is to be a success."""
    parts = urlsplit(url)
    os.sync()
    began = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port or 80)) as connection:
        connection.putrequest(method, f"{parts.path}?{parts.query}" if parts.query else parts.path)
        for name, value in {**headers, "Content-Length": str(sent.length)}.items():
            connection.putheader(name, value)
        connection.endheaders(sent.before)
        with sent.file.open("rb") as content:
            connection.sock.sendfile(content)
        if sent.after:
            connection.sock.sendall(sent.after)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status in (200, 201, 204), (answer.status, body[:300])
    return time.monotonic() - began


def get(url: str, headers: dict[str, str]) -> float:
    """Seconds until the last byte."""
    parts = urlsplit(url)
    buffer = memoryview(bytearray(1 << 20))
    began = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection(str(parts.hostname), parts.port or 80)) as connection:
        connection.request(
            "GET", f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers
        )
        answer = connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read()[:300])
        received = 0
        while count := answer.readinto(buffer):
            received += count
    assert received == _SIZE, received
    return time.monotonic() - began


@dataclass(frozen=True)
class Bare:
    home: Path
    url: str

    def up(self, sent: Sent, number: int) -> float:
        return put("PUT", f"{self.url}/{number}", sent, {})

    def down(self, number: int) -> float:
        return get(f"{self.url}/{number}", {})


@dataclass(frozen=True)
class Lfs:
    """A project of an appliance; each object is a new one."""

    base: str
    authorization: str

    def up(self, sent: Sent, number: int) -> float:
        url = f"{self.base}/gitlab-lfs/objects/{_oid(sent.file)}/{_SIZE}"
        return put("PUT", url, sent, {"Authorization": self.authorization})

    def down(self, file: Path) -> float:
        return get(f"{self.base}/gitlab-lfs/objects/{_oid(file)}", {"Authorization": self.authorization})


@dataclass(frozen=True)
class Artifacts:
    """Jobs of an appliance; each artifact is another job's."""

    base: str
    runner: FakeRunner
    new_job: Callable[[], TakenJob]

    def up(self, sent: Sent) -> tuple[TakenJob, float]:
        job = self.new_job()
        head = b'Content-Disposition: form-data; name="file"; filename="artifacts.zip"'
        before = b"--" + _BOUNDARY + b"\r\n" + head + b"\r\nContent-Type: application/zip\r\n\r\n"
        form = Sent(sent.file, before, b"\r\n--" + _BOUNDARY + b"--\r\n")
        headers = {
            "JOB-TOKEN": job.token,
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}",
        }
        url = f"{self.base}/api/v4/jobs/{job.id}/artifacts?artifact_format=zip&artifact_type=archive"
        return job, put("POST", url, form, headers)

    def down(self, job: TakenJob) -> float:
        return get(f"{self.base}/api/v4/jobs/{job.id}/artifacts", {"JOB-TOKEN": job.token})


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """MB/s, ours and bare in turns; one unmeasured round first."""
    speeds: dict[str, list[float]] = {}
    with bare(home / "bare") as yardstick, appliance() as ours:
        lfs, artifacts = _lfs(ours), _artifacts(ours)
        for number in range(runs + 1):
            seconds = _round(home, number, yardstick, lfs, artifacts)
            if number:
                for name, value in seconds.items():
                    speeds.setdefault(name, []).append(_SIZE / 1e6 / value)
    return [_row(what, way, speeds) for what in ("LFS object", "artifact") for way in ("up", "down")]


def _round(home: Path, number: int, yardstick: Bare, lfs: Lfs, artifacts: Artifacts) -> dict[str, float]:
    """Seconds of each transfer; who goes first changes with the rounds."""
    sent = Sent(_noise(home / f"noise-{number}"))
    seconds: dict[str, float] = {}
    taken: list[TakenJob] = []

    def ours() -> None:
        seconds["LFS object up"] = lfs.up(sent, number)
        job, seconds["artifact up"] = artifacts.up(sent)
        taken.append(job)

    def theirs() -> None:
        seconds["bare up"] = yardstick.up(sent, number)

    def back() -> None:
        seconds["LFS object down"] = lfs.down(sent.file)
        seconds["artifact down"] = artifacts.down(taken[0])

    def back_bare() -> None:
        seconds["bare down"] = yardstick.down(number)

    for pair in ((ours, theirs), (back, back_bare)):
        for step in pair if number % 2 else reversed(pair):
            step()
    taken[0].finish()
    sent.file.unlink()
    (yardstick.home / "files" / str(number)).unlink()
    return seconds


def _row(what: str, way: str, speeds: dict[str, list[float]]) -> dict[str, Any]:
    ours, theirs = speeds[f"{what} {way}"], speeds[f"bare {way}"]
    ratio = statistics.median(ours) / statistics.median(theirs)
    return figure(
        f"{what} of 256 MB {way}",
        "MB/s",
        ours,
        target=f"≥ {_LEAST[way]:.0%} of the yardstick's speed",
        ok=ratio >= _LEAST[way],
        yardstick=_YARDSTICK,
        yardstick_values=theirs,
    )


def _noise(path: Path) -> Path:
    with path.open("wb") as file:
        for _ in range(_SIZE >> 20):
            file.write(os.urandom(1 << 20))
    return path


def _oid(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _token(ours: Ours) -> str:
    return ours.cli.layout.secret("admin_token").read_text().strip()


def _lfs(ours: Ours) -> Lfs:
    parts = urlsplit(ours.new_remote("bench-lfs"))
    authorization = "Basic " + base64.b64encode(f"oauth2:{_token(ours)}".encode()).decode()
    return Lfs(f"{ours.cli.plan.gitlab_url}{parts.path}", authorization)


def _artifacts(ours: Ours) -> Artifacts:
    """With the bundled runner out of the way."""
    base = ours.cli.plan.gitlab_url
    api = httpx.Client(base_url=f"{base}/api/v4", headers={"PRIVATE-TOKEN": _token(ours)}, timeout=60)
    for runner in api.get("/runners/all").json():
        api.put(f"/runners/{runner['id']}", json={"paused": True}).raise_for_status()
    project = api.post("/projects", json={"name": "bench-artifacts"}).json()
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": _CI}
    commit = {"branch": "main", "commit_message": "CI [ci skip]", "actions": [action]}
    api.post(f"/projects/{project['id']}/repository/commits", json=commit).raise_for_status()
    runner = register(base, ours.cli.layout.secret("registration_token").read_text().strip())

    def new_job() -> TakenJob:
        api.post(f"/projects/{project['id']}/pipeline", json={"ref": "main"}).raise_for_status()
        job = runner.take_one()
        job.patch(b"begun\n")
        return job

    return Artifacts(base, runner, new_job)


@contextlib.contextmanager
def bare(home: Path) -> Iterator[Bare]:
    """nginx with next to no configuration."""
    (home / "files").mkdir(parents=True)
    with bare_nginx(home, f"root {home}/files;\n        dav_methods PUT;") as port:
        yield Bare(home, f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="nautilus-bench-transfers-", dir="/tmp") as folder:
        found = figures(int(sys.argv[1]) if len(sys.argv) > 1 else 5, Path(folder))
    print(json.dumps(found, indent=2, ensure_ascii=False))
