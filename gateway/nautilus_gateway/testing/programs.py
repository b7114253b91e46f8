"""The real programs of the data path, started for a test or a bench and ended with it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_DEADLINE_S = 60.0


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


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """Ports that were free a moment ago, and that no outgoing connection of a neighbour will take meanwhile.

    Source: Linux, Documentation/networking/ip-sysctl.rst: connections get theirs from ip_local_port_range.
    """
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    below = range(min(20_000, first_of_connections // 2), first_of_connections)
    found: list[int] = []
    for port in random.SystemRandom().sample(below, len(below)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"{address} has no {count} free ports between {below[0]} and {below[-1]}")


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
    """Runs `argv` in a process group of its own until the block ends.

    Raises RuntimeError with its output when it fails, be it at the start or later.
    """
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
        wait_until(lambda: _has_failed(process) or is_ready(), f"{argv[0]} ready")
        refuse_failed(process, log)
        yield process
        refuse_failed(process, log)
    finally:
        end_group(process)


def _has_failed(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended by itself: not by a signal, as tests may send it one."""
    return (process.poll() or 0) > 0


def refuse_failed(process: subprocess.Popen[bytes], log: Path) -> None:
    if _has_failed(process):
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {log.read_text()[-2000:]}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL, for the process and what it started.

    The process is not waited for before that: its number could be another's by then.
    """
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: _is_over(process), "its end", 30)
    process.wait(30)


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


@contextlib.contextmanager
def running_nginx(configuration: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An nginx that listens on all its ports: it takes one after the other, and ends if a later one is taken."""
    argv = ["nginx", "-e", "stderr", "-c", str(configuration), "-g", "daemon off;"]
    with running(argv, lambda: answers(port), log) as process:
        wait_until(lambda: _has_failed(process) or len(family(process.pid)) > 1, "nginx's workers")
        refuse_failed(process, log)
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
