"""Git and git-lfs as clients of a running forge with the gateway before it, and the LFS API spoken by hand."""

from __future__ import annotations

import base64
import hashlib
import itertools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from nautilus_forge.testing.server import ADMIN_TOKEN

MEDIA_TYPE = "application/vnd.git-lfs+json"
NOWHERE = "ab" * 32
"""The id of an object that nobody has."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class GitServer:
    """`url` has no slash at its end. `work`: a folder for clones. `environment`: of git as a client."""

    url: str
    work: Path
    environment: Mapping[str, str]

    def remote(self, path: str, token: str = ADMIN_TOKEN, name: str = "oauth2") -> str:
        scheme, _, host = self.url.partition("://")
        return f"{scheme}://{name}:{token}@{host}/{path}.git"

    def run(self, *argv: str, at: str = ".", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.work / at,
            env={**self.environment, "HOME": str(self.work), **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def git(self, *args: str, at: str = ".", **env: str) -> subprocess.CompletedProcess[str]:
        return self.run("git", *args, at=at, **env)

    def must(self, *args: str, at: str = ".") -> str:
        """The output of a git command that succeeds."""
        done = self.git(*args, at=at)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def clone(self, path: str, token: str = ADMIN_TOKEN) -> str:
        """A fresh clone's folder, with git-lfs set up in it."""
        folder = f"clone-{next(_numbers)}"
        self.must("clone", "-q", self.remote(path, token), folder)
        self.must("lfs", "install", "--local", at=folder)
        return folder

    def commit(self, at: str, **files: bytes) -> str:
        for name, content in files.items():
            (self.work / at / name).write_bytes(content)
        self.must("add", ".", at=at)
        self.must("commit", "-q", "-m", "change", at=at)
        return self.must("rev-parse", "HEAD", at=at)


@dataclass(frozen=True)
class LfsClient:
    """The LFS API of one project, spoken by hand."""

    base: str
    auth: tuple[str, str] | None

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
        headers = {"Accept": MEDIA_TYPE, "Content-Type": MEDIA_TYPE, **more.pop("headers", {})}
        return requests.request(
            method, f"{self.base}/{path}", json=body, auth=self.auth, headers=headers, timeout=30, **more
        )

    def batch(self, operation: str, *objects: tuple[str, int], **more: Any) -> requests.Response:
        wanted = [{"oid": oid, "size": size} for oid, size in objects]
        body = {"operation": operation, "objects": wanted, **more}
        return self.call("POST", "info/lfs/objects/batch", body)

    def put(self, content: bytes, oid: str = "", size: int | None = None, **more: Any) -> requests.Response:
        """The bytes straight to where the batch API would send them."""
        oid, size = oid or oid_of(content), len(content) if size is None else size
        url = f"{self.base}/gitlab-lfs/objects/{oid}/{size}"
        return requests.put(url, data=content, auth=self.auth, timeout=30, **more)

    def get(self, oid: str, **headers: str) -> requests.Response:
        return requests.get(
            f"{self.base}/gitlab-lfs/objects/{oid}", auth=self.auth, headers=headers, timeout=30
        )

    def verify(self, oid: str, size: int) -> requests.Response:
        return self.call("POST", "info/lfs/objects/verify", {"oid": oid, "size": size})


def oid_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def stored(lfs: LfsClient, content: bytes) -> str:
    """An object of the project's, by the way that clients go; its id."""
    [answer] = lfs.batch("upload", (oid_of(content), len(content))).json()["objects"]
    action = answer["actions"]["upload"]
    headers = {k: v for k, v in action["header"].items() if k != "Transfer-Encoding"}
    sent = requests.put(action["href"], data=content, headers=headers, timeout=30)
    assert sent.status_code == 200, sent.text
    return oid_of(content)
