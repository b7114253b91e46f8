"""The real programs of the data path, started for a test or a bench and ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_DEADLINE_S = 15.0


@contextlib.contextmanager
def short_home() -> Iterator[Path]:
    """A data folder with a path short enough for unix sockets, removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
    for name in ("run", "spool", "forge", "management", "log", "etc"):
        (home / name).mkdir()
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports on the loopback address that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = _DEADLINE_S) -> None:
    """Polls; raises TimeoutError that names `what`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline_s} s")
        time.sleep(0.01)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(
    argv: list[str], is_ready: Callable[[], bool], log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `argv` in a process group of its own until the block ends. Raises RuntimeError with its output."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )
    try:
        wait_until(lambda: process.poll() is not None or is_ready(), f"{argv[0]} ready")
        if process.poll() is not None:
            raise RuntimeError(f"{argv[0]} ended with {process.returncode}: {log.read_text()[-2000:]}")
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL, for the process and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


@contextlib.contextmanager
def running_nginx(configuration: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = ["nginx", "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"]
    with running(argv, lambda: answers(port), log) as process:
        yield process


@contextlib.contextmanager
def running_fcgiwrap(socket_path: Path, log: Path, processes: int = 8) -> Iterator[subprocess.Popen[bytes]]:
    argv = ["fcgiwrap", "-f", "-c", str(processes), "-s", f"unix:{socket_path}"]
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    with running(argv, socket_path.is_socket, log, env=environment) as process:
        yield process


def family(pid: int) -> list[Path]:
    """/proc folders of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{one}") for one in (str(pid), *children)]


def pss_bytes(process: Path) -> int:
    """Proportional set size of one /proc folder."""
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
