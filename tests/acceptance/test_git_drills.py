"""Git under stress, on a whole appliance: a gigabyte by LFS, the forge killed among pushes, a disk that is full."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.appliance.processes import pss_mib
from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus_gateway.testing.stack import GIT_ENVIRONMENT

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.drill,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed"),
]

_GIB = 1 << 30
_GROWTH_MIB = 24
"""What the forge may take more while a gigabyte goes past it."""
CI_FILE = "job:\n  script: [date]\n  tags: [nobody-has-this]\n"


def wait_until(is_true: Callable[[], Any], within_s: float, what: str) -> Any:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if found := is_true():
                return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


@dataclass
class Server:
    """An appliance of the test's own and a person with clones in `work`."""

    cli: CommandLine
    work: Path
    api: httpx.Client
    token: str

    @property
    def base(self) -> str:
        return self.cli.plan.gitlab_url

    def project(self, name: str) -> dict[str, Any]:
        made = self.api.post("/projects", json={"name": name, "initialize_with_readme": True})
        assert made.status_code == 201, made.text
        project: dict[str, Any] = made.json()
        return project

    def remote(self, project: dict[str, Any]) -> str:
        host = self.base.removeprefix("http://")
        return f"http://oauth2:{self.token}@{host}/{project['path_with_namespace']}.git"

    def git(self, *args: str, at: str = ".", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *args],
            cwd=self.work / at,
            env={**GIT_ENVIRONMENT, "HOME": str(self.work), **env},
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )

    def must(self, *args: str, at: str = ".", **env: str) -> str:
        done = self.git(*args, at=at, **env)
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, at: str, name: str, content: str) -> str:
        (self.work / at / name).write_text(content)
        self.must("add", ".", at=at)
        self.must("commit", "-q", "-m", name, at=at)
        return self.must("rev-parse", "HEAD", at=at)


@contextlib.contextmanager
def appliance(home: Path, work: Path) -> Iterator[Server]:
    cli = CommandLine(home)
    try:
        started = cli.run("up")
        assert started.returncode == 0, f"{started.stderr}\n{cli.logs()}"
        token = cli.layout.secret("admin_token").read_text().strip()
        url = f"{cli.plan.gitlab_url}/api/v4"
        with httpx.Client(base_url=url, headers={"PRIVATE-TOKEN": token}, timeout=120) as api:
            yield Server(cli, work, api, token)
    finally:
        cli.run("down")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = fresh_home()
    try:
        with appliance(home, tmp_path) as running:
            yield running
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Watch:
    """The forge's memory (PSS), looked at all the time."""

    pid: int
    seen_mib: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def ing(self) -> Iterator[None]:
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                if (size := pss_mib(self.pid)) is not None:
                    self.seen_mib.append(size)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_gigabyte_by_lfs_over_http_and_ssh_leaves_the_forge_s_memory_alone(server: Server) -> None:
    project = server.project("heavy")
    server.must("clone", "-q", server.remote(project), "one")
    server.must("lfs", "install", "--local", at="one")
    server.must("lfs", "track", "*.bin", at="one")
    weights = server.work / "one" / "weights.bin"
    with weights.open("wb") as file:
        for _ in range(_GIB >> 20):
            file.write(os.urandom(1 << 20))
    expected = sha256(weights)
    server.must("add", ".", at="one")
    server.must("commit", "-q", "-m", "a gigabyte", at="one")
    watch = Watch(server.cli.service("forge")["pid"])
    before = pss_mib(watch.pid) or 0
    with watch.ing():
        server.must("push", "-q", "origin", "main", at="one")
        shutil.rmtree(server.work / "one")
        server.must("clone", "-q", server.remote(project), "two")
        server.must("lfs", "install", "--local", at="two")
        server.must("lfs", "pull", at="two")
        assert sha256(server.work / "two" / "weights.bin") == expected
        shutil.rmtree(server.work / "two")
        _clone_over_ssh(server, project, "three")
        assert sha256(server.work / "three" / "weights.bin") == expected
    assert watch.seen_mib
    assert max(watch.seen_mib) <= before + _GROWTH_MIB, f"{before} MiB before, {max(watch.seen_mib)} MiB then"
    assert list(server.cli.layout.spool.rglob("[0-9]*")) == [], "nothing lies about in the spool folder"


def _clone_over_ssh(server: Server, project: dict[str, Any], at: str) -> None:
    key = server.work / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text()
    assert server.api.post("/user/keys", json={"title": "drill", "key": public}).status_code == 201
    options = (
        f"-i {key} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -F none"
    )
    ssh = {"GIT_SSH_COMMAND": f"ssh {options}"}
    server.must("clone", "-q", project["ssh_url_to_repo"], at, **ssh)
    server.must("lfs", "install", "--local", at=at)
    server.must("lfs", "pull", at=at, **ssh)


def test_each_acknowledged_push_has_one_pipeline_however_often_the_forge_was_killed(server: Server) -> None:
    """Kills at random moments: before, while and after git moves the ref."""
    project = server.project("killed")
    server.must("clone", "-q", server.remote(project), "one")
    server.must("switch", "-q", "-c", "work", at="one")
    server.commit("one", ".gitlab-ci.yml", CI_FILE)
    server.must("push", "-q", "-o", "ci.skip", "origin", "work", at="one")
    noise, ended = random.Random(5), threading.Event()

    def kill() -> None:
        while not ended.wait(noise.uniform(0.8, 2.5)):
            pid = server.cli.service("forge")["pid"]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    acknowledged = []
    try:
        for number in range(25):
            sha = server.commit("one", "file", str(number))
            if server.git("push", "-q", "origin", "work", at="one").returncode == 0:
                acknowledged.append(sha)
    finally:
        ended.set()
        killer.join()
    assert len(acknowledged) >= 5
    wait_until(lambda: server.cli.run("status", "--json").returncode == 0, 90, "the appliance is healthy")

    def pipelines() -> list[str]:
        found = server.api.get(f"/projects/{project['id']}/pipelines?ref=work&per_page=100").json()
        return [one["sha"] for one in found]

    wait_until(lambda: set(acknowledged) <= set(pipelines()), 90, "each acknowledged push has its pipeline")
    time_to_settle = time.monotonic() + 35
    wait_until(lambda: time.monotonic() > time_to_settle, 60, "the next sweep has passed")
    made = pipelines()
    assert sorted(made) == sorted(set(made)), "none was made twice"
    head = server.api.get(f"/projects/{project['id']}/repository/branches/work").json()["commit"]["id"]
    assert head in made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a filesystem of 1,000 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem")
    home = fresh_home()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000m,mode=755", "tmpfs", str(home)])
    if mounted.returncode != 0:
        pytest.skip("no filesystem can be mounted here")
    try:
        yield home
    finally:
        subprocess.run(["umount", "-l", str(home)], check=False)
        shutil.rmtree(home, ignore_errors=True)


def test_a_disk_that_a_push_or_an_upload_fills(small_disk: Path, tmp_path: Path) -> None:
    with appliance(small_disk, tmp_path) as server:
        project = server.project("small")
        server.must("clone", "-q", server.remote(project), "one")
        server.must("lfs", "install", "--local", at="one")
        free = shutil.disk_usage(small_disk).free
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - (100 << 20))

        (server.work / "one" / "large.dat").write_bytes(os.urandom(150 << 20))
        server.must("add", ".", at="one")
        server.must("commit", "-q", "-m", "more than there is room for", at="one")
        pushed = server.git("push", "origin", "HEAD:large", at="one")
        assert pushed.returncode != 0
        assert "No space left on device" in pushed.stderr, pushed.stderr
        branches = server.api.get(f"/projects/{project['id']}/repository/branches").json()
        assert [branch["name"] for branch in branches] == ["main"]

        server.must("reset", "-q", "--hard", "origin/main", at="one")
        server.must("lfs", "track", "*.bin", at="one")
        (server.work / "one" / "large.bin").write_bytes(os.urandom(150 << 20))
        server.must("add", ".", at="one")
        server.must("commit", "-q", "-m", "an object", at="one")
        uploaded = server.git("push", "origin", "HEAD:main", at="one")
        assert uploaded.returncode != 0
        assert "No space left for LFS objects" in uploaded.stderr, uploaded.stderr
        assert server.git("ls-remote", "origin", at="one").returncode == 0, "reading works"

        filler.unlink()
        server.must("push", "-q", "origin", "HEAD:main", at="one")
        assert json.loads(server.cli.run("status", "--json").stdout)["ready"] is True
