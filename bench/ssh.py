"""Clone and push of about 50 MB over SSH, and one connection, against a bare sshd that runs git itself.

Ours is the whole appliance: sshd asks the forge for the key, the forced command asks it for the rights, git runs with
the forge's settings and hooks. The yardstick is an sshd with the key in a file and `git init --bare` behind it. Both
answer the same client in turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.figures import figure
from bench.git import Ours, Server, appliance, worktree
from nautilus.appliance.sshd import sshd_path
from nautilus_gateway.testing.programs import answers, free_ports, running
from nautilus_gateway.testing.stack import git

_LEAST_SPEED = 0.9
_YARDSTICK = "git behind a bare sshd"
_MOST_EXTRA_S = 0.15
"""What the question for the key, the forced command and the question for the rights may add to a connection."""

_BARE_CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""


@dataclass(frozen=True)
class Bare:
    home: Path
    port: int
    user: str

    def new_remote(self, name: str) -> str:
        repository = self.home / "repositories" / f"{name}.git"
        git("init", "-q", "--bare", "-b", "main", str(repository))
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repository}"


@dataclass(frozen=True)
class OverSsh:
    """The appliance, by the SSH addresses of its projects."""

    ours: Ours
    token: str

    def new_remote(self, name: str) -> str:
        made = self.call("/projects", {"name": name})
        return str(made["ssh_url_to_repo"])

    def call(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        url = f"{self.ours.cli.plan.gitlab_url}/api/v4{path}"
        answer = httpx.post(url, json=body, headers={"PRIVATE-TOKEN": self.token}, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """Seconds of `git clone`, `git push` and `git ls-remote` (one connection), ours and bare in turns."""
    work, key = worktree(home / "work"), home / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    client = Client(key, home)
    with bare(home / "bare", key) as yardstick, appliance() as plain:
        token = plain.cli.layout.secret("admin_token").read_text().strip()
        ours = OverSsh(plain, token)
        ours.call("/user/keys", {"title": "bench", "key": key.with_suffix(".pub").read_text()})
        times = client.measure(runs, {"bare": yardstick, "ours": ours}, work)
    rows = [_row(name, times[f"ours {name}"], times[f"bare {name}"]) for name in ("clone", "push")]
    return [*rows, _connection(times["ours connection"], times["bare connection"])]


@dataclass(frozen=True)
class Client:
    """git with one key and nothing of this machine's configuration."""

    key: Path
    home: Path

    def measure(self, runs: int, servers: dict[str, Server], work: Path) -> dict[str, list[float]]:
        """One unmeasured round, then `runs` of them; who goes first changes with each."""
        kinds = ("clone", "push", "connection")
        times: dict[str, list[float]] = {f"{who} {what}": [] for who in servers for what in kinds}
        for number in range(runs + 1):
            order = list(servers.items())
            for who, server in order if number % 2 else reversed(order):
                taken = self._round(server.new_remote(f"bench-{number}"), work)
                for what, seconds in zip(kinds, taken, strict=True):
                    times[f"{who} {what}"] += [seconds] if number else []
        return times

    def _round(self, remote: str, work: Path) -> tuple[float, float, float]:
        target = self.home / "clone"
        pushed = self._seconds("push", "-q", remote, "main", cwd=work)
        cloned = self._seconds("clone", "-q", remote, str(target), cwd=self.home)
        connected = self._seconds("ls-remote", "-q", remote, cwd=self.home)
        assert git("rev-parse", "HEAD", cwd=target) == git("rev-parse", "main", cwd=work)
        shutil.rmtree(target)
        return cloned, pushed, connected

    def _seconds(self, *argv: str, cwd: Path) -> float:
        options = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "LogLevel=ERROR",
        )
        command = f"ssh -F none -i {self.key} " + " ".join(f"-o {option}" for option in options)
        os.sync()
        began = time.monotonic()
        git("-c", f"core.sshCommand={command}", *argv, cwd=cwd, timeout_s=600)
        return time.monotonic() - began


def _row(name: str, ours: list[float], bare_times: list[float]) -> dict[str, Any]:
    speed = statistics.median(bare_times) / statistics.median(ours)
    return figure(
        f"git {name} of 50 MB over SSH",
        "s",
        ours,
        target=f"≥ {_LEAST_SPEED:.0%} of the yardstick's speed",
        ok=speed >= _LEAST_SPEED,
        yardstick=_YARDSTICK,
        yardstick_values=bare_times,
    )


def _connection(ours: list[float], bare_times: list[float]) -> dict[str, Any]:
    extra_s = statistics.median(ours) - statistics.median(bare_times)
    return figure(
        "git ls-remote over SSH",
        "s",
        ours,
        target=f"≤ {_MOST_EXTRA_S} s more than the yardstick",
        ok=extra_s <= _MOST_EXTRA_S,
        yardstick=_YARDSTICK,
        yardstick_values=bare_times,
    )


@contextlib.contextmanager
def bare(home: Path, key: Path) -> Iterator[Bare]:
    """An sshd with next to no configuration, for the user that runs this."""
    (home / "repositories").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "host_key")], check=True)
    shutil.copyfile(key.with_suffix(".pub"), home / "authorized_keys")
    [port] = free_ports(1)
    (home / "sshd_config").write_text(_BARE_CONFIGURATION.format(port=port, home=home))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    argv = [sshd_path(), "-D", "-e", "-f", str(home / "sshd_config")]
    with running(argv, lambda: answers(port), home / "sshd.log"):
        yield Bare(home, port, pwd.getpwuid(os.geteuid()).pw_name)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory(prefix="nautilus-bench-ssh-", dir="/tmp") as folder:
        found = figures(int(sys.argv[1]) if len(sys.argv) > 1 else 5, Path(folder))
    print(json.dumps(found, indent=2, ensure_ascii=False))
