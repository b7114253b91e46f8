"""Clone and push of about 50 MB through the gateway, against `git http-backend` on a bare nginx.

Ours is the whole appliance: nginx's question to the forge, the forge's repository settings and its hooks. The
yardstick is nginx and fcgiwrap with the few lines of git-http-backend(1), on repositories as `git init` makes them.
Both answer the same client in turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from bench.bare import bare_nginx
from bench.figures import figure
from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus_gateway.testing.programs import running_fcgiwrap
from nautilus_gateway.testing.stack import git

_MB = 1_000_000
_LARGE_FILES, _LARGE_MB = 8, 5
_SMALL_FILES, _SMALL_BYTES = 2000, 5000
_LEAST_SPEED = 0.9
_YARDSTICK = "git http-backend on bare nginx"

_BARE_SERVER = """\
location ~ ^/git(/.*)$ {{
    include /etc/nginx/fastcgi_params;
    fastcgi_param SCRIPT_FILENAME {backend};
    fastcgi_param GIT_HTTP_EXPORT_ALL "";
    fastcgi_param GIT_PROJECT_ROOT {home}/repositories;
    fastcgi_param PATH_INFO $1;
    fastcgi_pass unix:{home}/git.sock;
}}
"""


class Server(Protocol):
    """Something that serves git."""

    def new_remote(self, name: str) -> str:
        """The URL, credentials included, of a new empty repository."""
        ...


@dataclass(frozen=True)
class Bare:
    home: Path
    port: int

    def new_remote(self, name: str) -> str:
        repository = self.home / "repositories" / f"{name}.git"
        git("init", "-q", "--bare", "-b", "main", str(repository))
        git("config", "http.receivepack", "true", cwd=repository)
        return f"http://127.0.0.1:{self.port}/git/{name}.git"


@dataclass(frozen=True)
class Ours:
    cli: CommandLine

    def new_remote(self, name: str) -> str:
        token = self.cli.layout.secret("admin_token").read_text().strip()
        base = self.cli.plan.gitlab_url
        answer = httpx.post(
            f"{base}/api/v4/projects", json={"name": name}, headers={"PRIVATE-TOKEN": token}, timeout=30
        )
        answer.raise_for_status()
        host = base.removeprefix("http://")
        return f"http://root:{token}@{host}/{answer.json()['path_with_namespace']}.git"


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """Seconds of `git clone` and `git push` by a git of this machine, ours and bare in turns."""
    work = worktree(home / "work")
    with bare(home / "bare") as yardstick, appliance() as ours:
        times = _measure(runs, {"bare": yardstick, "ours": ours}, work, home)
    return [_row(name, times[f"ours {name}"], times[f"bare {name}"]) for name in ("clone", "push")]


def _measure(runs: int, servers: dict[str, Server], work: Path, home: Path) -> dict[str, list[float]]:
    """One unmeasured round, then `runs` of them; who goes first changes with each."""
    times: dict[str, list[float]] = {f"{who} {what}": [] for who in servers for what in ("clone", "push")}
    for number in range(runs + 1):
        order = list(servers.items())
        for who, server in order if number % 2 else reversed(order):
            remote = server.new_remote(f"bench-{number}")
            pushed = _seconds("push", "-q", remote, "main", cwd=work)
            target = home / "clone"
            cloned = _seconds("clone", "-q", remote, str(target), cwd=home)
            assert git("rev-parse", "HEAD", cwd=target) == git("rev-parse", "main", cwd=work)
            shutil.rmtree(target)
            if number:
                times[f"{who} push"].append(pushed)
                times[f"{who} clone"].append(cloned)
    return times


def _seconds(*argv: str, cwd: Path) -> float:
    os.sync()
    began = time.monotonic()
    git(*argv, cwd=cwd, timeout_s=600)
    return time.monotonic() - began


def _row(name: str, ours: list[float], bare_times: list[float]) -> dict[str, Any]:
    speed = statistics.median(bare_times) / statistics.median(ours)
    return figure(
        f"git {name} of 50 MB",
        "s",
        ours,
        target=f"≥ {_LEAST_SPEED:.0%} of the yardstick's speed",
        ok=speed >= _LEAST_SPEED,
        yardstick=_YARDSTICK,
        yardstick_values=bare_times,
    )


@contextlib.contextmanager
def appliance() -> Iterator[Ours]:
    """A fresh appliance, up and ready."""
    cli = CommandLine(fresh_home())
    try:
        started = cli.run("up")
        if started.returncode != 0:
            raise RuntimeError(f"the appliance did not come up: {started.stderr}\n{cli.logs()}")
        yield Ours(cli)
    finally:
        cli.run("down")
        shutil.rmtree(cli.home, ignore_errors=True)


@contextlib.contextmanager
def bare(home: Path) -> Iterator[Bare]:
    """nginx and fcgiwrap with next to no configuration."""
    (home / "repositories").mkdir(parents=True)
    backend = git("--exec-path").strip() + "/git-http-backend"
    with (
        running_fcgiwrap(home / "git.sock", home / "git.log"),
        bare_nginx(home, _BARE_SERVER.format(home=home, backend=backend)) as port,
    ):
        yield Bare(home, port)


def worktree(path: Path) -> Path:
    """40 MB that cannot be compressed in a few files, 10 MB of text in many: always the same bytes."""
    noise = random.Random(20)
    words = [noise.randbytes(4).hex() for _ in range(500)]
    git("init", "-q", "-b", "main", str(path))
    for number in range(_LARGE_FILES):
        (path / f"large-{number}.bin").write_bytes(noise.randbytes(_LARGE_MB * _MB))
    for number in range(_SMALL_FILES):
        folder = path / f"part-{number % 40}"
        folder.mkdir(exist_ok=True)
        lines = noise.choices(words, k=_SMALL_BYTES // 9)
        (folder / f"file-{number}.txt").write_text("\n".join(lines) + "\n")
    git("add", ".", cwd=path, timeout_s=120)
    git("commit", "-q", "-m", "the data", cwd=path)
    git("repack", "-q", "-a", "-d", cwd=path, timeout_s=120)
    return path


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="nautilus-bench-git-", dir="/tmp") as folder:
        found = figures(int(sys.argv[1]) if len(sys.argv) > 1 else 5, Path(folder))
    print(json.dumps(found, indent=2, ensure_ascii=False))
