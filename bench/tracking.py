"""Metrics per second through the gateway, beside a real `mlflow server` from PyPI, by the same raw client.

Ours: the appliance as it is (nginx, management, PostgreSQL with synchronous_commit=on), with an administrator's
token that GitLab vouches for. The yardstick: MLflow's server as it starts by default (SQLite), and with
`--workers 1`; no authentication. One client, one connection, one request after the other.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.figures import figure
from nautilus.testing.command_line import CommandLine, fresh_home
from nautilus_gateway.testing.programs import free_ports

MLFLOW = "mlflow==3.17.2"
_VENV = Path(__file__).parent / ".venv"
_WINDOW_S = 2.0
_POINTS = 1000
_KEYS = 10
_METRIC_TARGET = 500.0
_POINTS_TARGET = 60_000.0
_API = "/api/2.0/mlflow"


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """log_metric by one client (requests/s), log_batch of 1,000 points (points/s), against both yardsticks."""
    program = _mlflow_program()
    ours: dict[str, list[float]] = {"metric": [], "batch": []}
    theirs: dict[str, dict[str, list[float]]] = {}
    with _appliance() as (url, token):
        _durable(url, token)
        for _ in range(runs):
            _measure(_Target(url, token), ours)
    for name, arguments in (("mlflow server", []), ("mlflow server --workers 1", ["--workers", "1"])):
        theirs[name] = {"metric": [], "batch": []}
        with _mlflow_server(program, home / name.replace(" ", ""), arguments) as url:
            for _ in range(runs):
                _measure(_Target(url, None), theirs[name])
    return _rows(ours, theirs)


def _rows(ours: dict[str, list[float]], theirs: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    rows = []
    for what, title, unit, target in (
        ("metric", "log_metric by one client,", "requests/s", _METRIC_TARGET),
        ("batch", f"log_batch of {_POINTS},", "points/s", _POINTS_TARGET),
    ):
        for yardstick, values in theirs.items():
            rows.append(
                figure(
                    f"{title} beside {yardstick}",
                    unit,
                    ours[what],
                    target=f"≥ {target:,.0f}",
                    ok=statistics.median(ours[what]) >= target,
                    yardstick=yardstick,
                    yardstick_values=values[what],
                )
            )
    return rows


def _measure(target: _Target, into: dict[str, list[float]]) -> None:
    into["metric"].append(target.rate(target.single_requests()))
    into["batch"].append(target.rate(target.batch_requests()) * _POINTS)


class _Target:
    """A server and a run of its own in it, over one kept-alive connection."""

    def __init__(self, url: str, token: str | None) -> None:
        self.wire = _Wire(url, token)
        self.run_id = self._make_run()

    def _make_run(self) -> str:
        name = "root/bench-tracking" if self.wire.token else f"bench-{random.random()}"
        if not self.wire.token:
            self.wire.ask("POST", f"{_API}/experiments/create", {"name": name})
        path = f"{_API}/experiments/get-by-name?experiment_name={name}"
        experiment_id = self.wire.ask("GET", path)["experiment"]["experiment_id"]
        return str(
            self.wire.ask("POST", f"{_API}/runs/create", {"experiment_id": experiment_id})["run"]["info"][
                "run_id"
            ]
        )

    def single_requests(self) -> Iterator[bytes]:
        for step in itertools.count():
            point = {
                "key": "loss",
                "value": random.random(),
                "timestamp": 1_700_000_000_000 + step,
                "step": step,
            }
            yield self.wire.request("POST", f"{_API}/runs/log-metric", {"run_id": self.run_id, **point})

    def batch_requests(self) -> Iterator[bytes]:
        for batch in itertools.count():
            steps = range(batch * _POINTS // _KEYS, (batch + 1) * _POINTS // _KEYS)
            metrics = [
                {
                    "key": f"metric {key}",
                    "value": random.random(),
                    "timestamp": 1_700_000_000_000 + step,
                    "step": step,
                }
                for step in steps
                for key in range(_KEYS)
            ]
            yield self.wire.request(
                "POST", f"{_API}/runs/log-batch", {"run_id": self.run_id, "metrics": metrics}
            )

    def rate(self, requests: Iterator[bytes]) -> float:
        """Answered requests per second of waiting; making them is not counted."""
        self.wire.send(next(requests))
        waited_s, count = 0.0, 0
        while waited_s < _WINDOW_S:
            request = next(requests)
            began = time.perf_counter()
            self.wire.send(request)
            waited_s += time.perf_counter() - began
            count += 1
        return count / waited_s


class _Wire:
    """HTTP/1.1 on one socket: the least that a client can be."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        self.token = token
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", "Content-Type: application/json"]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.send(self.request(method, path, body)))

    def send(self, request: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for anything but 200."""
        self._socket.sendall(request)
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        self._buffer = rest
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        if head.split()[1] != b"200":
            raise RuntimeError(f"{head.splitlines()[0]!r}: {body[:300]!r}")
        return body

    def _receive(self) -> None:
        part = self._socket.recv(65536)
        if not part:
            raise RuntimeError("the server closed the connection")
        self._buffer += part


@contextmanager
def _appliance() -> Iterator[tuple[str, str]]:
    """URL of the gateway and root's token."""
    import gitlab

    cli = CommandLine(fresh_home())
    try:
        up = cli.run("up")
        if up.returncode != 0:
            raise RuntimeError(f"the appliance does not start: {up.stderr}\n{cli.logs()}")
        token = cli.layout.secret("admin_token").read_text().strip()
        client = gitlab.Gitlab(cli.plan.gitlab_url, private_token=token)
        client.projects.create({"name": "bench-tracking"})
        yield cli.plan.web_url, token
    finally:
        cli.run("down")
        shutil.rmtree(cli.home, ignore_errors=True)


def _durable(url: str, token: str) -> None:
    """What was acknowledged is read back, so that nobody measures a server that drops it."""
    target = _Target(url, token)
    target.wire.send(next(target.batch_requests()))
    run = target.wire.ask("GET", f"{_API}/runs/get?run_id={target.run_id}")["run"]
    if len(run["data"]["metrics"]) != _KEYS:
        raise RuntimeError("the points of a batch are not there")


def _mlflow_program() -> Path:
    """MLflow's server in an environment of its own, made once."""
    stamp = _VENV / MLFLOW
    if not stamp.exists():
        print(f"  installing {MLFLOW} into {_VENV} (once)", file=sys.stderr, flush=True)
        shutil.rmtree(_VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(_VENV)], check=True)
        pip = [str(_VENV / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", MLFLOW]
        subprocess.run(pip, check=True)
        stamp.touch()
    return _VENV / "bin" / "mlflow"


@contextmanager
def _mlflow_server(program: Path, folder: Path, arguments: list[str]) -> Iterator[str]:
    """`mlflow server` with its defaults (SQLite in its own folder) on a free port; its URL."""
    folder.mkdir(parents=True)
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        argv = [str(program), "server", "--host", "127.0.0.1", "--port", str(port), *arguments]
        server = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(url, server, folder / "log")
        yield url
    finally:
        _end(server)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            _Wire(url, None).ask("POST", f"{_API}/experiments/search", {"max_results": 1})
        except (OSError, RuntimeError, StopIteration, ValueError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"mlflow server does not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.1)
        else:
            return


def _end(server: subprocess.Popen[bytes]) -> None:
    """The server and its workers: all of its own process group."""
    import os
    import signal

    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
