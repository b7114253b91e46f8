"""A git host for tests: real repositories, served by `git http-backend` behind job tokens."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nautilus_runner.testing.lfshost import answer_lfs, is_lfs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_AUTHOR = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class Repository:
    """A bare repository `<root>/<path>.git`, written to as if by pushes."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.folder = root / f"{path}.git"
        self._work = root / "work" / path.replace("/", "-")
        self.folder.mkdir(parents=True)
        self._work.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", ".", cwd=self.folder)
        self.git("init", "--quiet", "--initial-branch=main", ".", cwd=self._work)

    def commit(self, files: Mapping[str, str | bytes], message: str = "change", branch: str = "main") -> str:
        """Write files (a str that begins with `-> ` is a link's target), commit and push; the commit's sha."""
        for name, content in files.items():
            target = self._work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str) and content.startswith("-> "):
                target.symlink_to(content[3:])
            else:
                target.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all", ".", cwd=self._work)
        self.git("commit", "--quiet", "--allow-empty", "-m", message, cwd=self._work)
        self.git("push", "--quiet", "--force", str(self.folder), f"HEAD:refs/heads/{branch}", cwd=self._work)
        return self.git("rev-parse", "HEAD", cwd=self._work)

    def link(self, path: str, sha: str) -> None:
        """Let the next commit hold a submodule at `sha` (`.gitmodules` is a file like others)."""
        (self._work / path).mkdir(parents=True, exist_ok=True)
        self.git("update-index", "--add", "--cacheinfo", f"160000,{sha},{path}", cwd=self._work)

    def point(self, ref: str, sha: str) -> None:
        """As the server makes refs/pipelines/<id>."""
        self.git("update-ref", ref, sha, cwd=self.folder)

    def git(self, *arguments: str, cwd: Path) -> str:
        env = {**os.environ, **_AUTHOR}
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


async def answer_git(root: Path, request: Request, tokens: set[str]) -> Response:
    """One request of the smart protocol. Without a good password: 401, as GitLab answers."""
    from starlette.responses import PlainTextResponse, Response

    password = _password(request.headers.get("Authorization", ""))
    if password not in tokens:
        headers = {"WWW-Authenticate": 'Basic realm="GitLab"'}
        return PlainTextResponse("HTTP Basic: Access denied", 401, headers)
    if is_lfs(request.url.path):
        return await answer_lfs(root, request)
    env = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PATH_INFO": request.url.path,
        "QUERY_STRING": request.url.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("git", "http-backend", env=env, stdin=pipe, stdout=pipe)
    out, _ = await process.communicate(await request.body())
    head, _, body = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return Response(body, status, headers)


def _password(authorization: str) -> str:
    kind, _, value = authorization.partition(" ")
    if kind.lower() != "basic":
        return ""
    return base64.b64decode(value).decode(errors="replace").partition(":")[2]
