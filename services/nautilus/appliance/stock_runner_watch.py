"""The program `runner` where a stock gitlab-runner is the bundled one: starts it, and tells health how it is.

    python -m nautilus.appliance.stock_runner_watch PROGRAM FOLDER

FOLDER is HOME/runner: gitlab-runner.toml is waited for, status.json is rewritten (docs/reference/internals.md). Whether
its server knows it is asked there (`POST /runners/verify`); what it works on is read from its log, JSON lines, which
go on to our own output. It ends with us: TERM and QUIT both end its jobs, since it has no way to find them again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STATUS_EVERY_S = 5.0
_VERIFY_AGAIN_S = 60.0
_TIMEOUT_S = 5.0
_TROUBLE = (
    "Checking for jobs... forbidden",
    "Checking for jobs... client error",
    "Checking for jobs... failed",
)


@dataclass
class StockRunner:
    """What is known of the runner. `jobs`: id → when it was taken; `reason` "" while its servers know it."""

    gpus: list[dict[str, Any]]
    slots: int
    version: str
    jobs: dict[int, str] = field(default_factory=dict)
    reason: str = "starting"
    is_stopping: bool = False

    def read_line(self, line: bytes) -> bool:
        """Takes up one line of its log; True where its server should be asked again."""
        try:
            said = json.loads(line)
        except ValueError:
            return False
        message, job = str(said.get("msg", "")), said.get("job")
        if isinstance(job, int):
            if message.startswith("Checking for jobs... received"):
                self.jobs[job] = _now()
            elif message.startswith(("Job succeeded", "Job failed")):
                self.jobs.pop(job, None)
        return message.startswith(_TROUBLE)

    def as_json(self) -> dict[str, Any]:
        state = "stopping" if self.is_stopping else "connecting" if self.reason else "ready"
        return {
            "pid": os.getpid(),
            "version": self.version,
            "updated_at": _now(),
            "state": state,
            "reason": self.reason,
            "executors": ["docker"],
            "slots": {"total": self.slots, "busy": len(self.jobs)},
            "gpus": self.gpus,
            "jobs": [{"id": job, "state": "running", "started_at": at} for job, at in self.jobs.items()],
        }


class Watch:
    """One gitlab-runner, from its configuration's first appearance to its end."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._config = folder / "gitlab-runner.toml"
        self._child: subprocess.Popen[bytes] | None = None
        self._runner = StockRunner([], 0, "")
        self._servers: list[tuple[str, str]] = []
        self._stamp: tuple[int, int] = (0, 0)
        self._verified_at = 0.0

    def run(self) -> int:
        """Its exit status, so that the supervisor starts both anew. Ends on SIGTERM, SIGQUIT, SIGINT."""
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._wait_for_configuration()
        if self._is_told_to_end():
            return 0
        self._runner.version = stock_version(self._program)
        argv = [self._program, "run", "--config", str(self._config), "--working-directory", str(self._folder)]
        self._child = subprocess.Popen(argv, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
        if self._is_told_to_end():
            self._child.terminate()
        self._follow(self._child)
        return self._child.wait()

    def _wait_for_configuration(self) -> None:
        """Until provision has written it, which it does before it asks anything of us."""
        while not self._read_configuration() and not self._is_told_to_end():
            self._runner.reason = f"waiting for {self._config.name}"
            self._tell()
            time.sleep(0.1)

    def _read_configuration(self) -> bool:
        """Takes up a file that is new or another (gitlab-runner does so too); False while there is none."""
        try:
            info = self._config.stat()
        except FileNotFoundError:
            return False
        if self._stamp != (info.st_mtime_ns, info.st_ino):
            self._stamp = (info.st_mtime_ns, info.st_ino)
            settings = tomllib.loads(self._config.read_text())
            self._runner.slots = int(settings["concurrent"])
            self._runner.gpus = _gpus(self._folder / "gpus.json")
            self._servers = [(entry["url"], entry["token"]) for entry in settings["runners"]]
            self._runner.reason = "connecting"
        return True

    def _follow(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                is_readable = bool(selector.select(STATUS_EVERY_S if not self._runner.reason else 1.0))
                is_troubled = False
                if is_readable:
                    part = os.read(child.stdout.fileno(), 65536)
                    if not part:
                        return
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
                    *lines, rest = (rest + part).split(b"\n")
                    troubles = [self._runner.read_line(line) for line in lines]
                    is_troubled = True in troubles
                self._read_configuration()
                self._verify(is_troubled)
                self._tell()

    def _verify(self, is_troubled: bool) -> None:
        """Asks each server: at first, while anything is wrong, and once a minute."""
        is_due = time.monotonic() - self._verified_at > (1.0 if self._runner.reason else _VERIFY_AGAIN_S)
        if is_due or (is_troubled and not self._runner.reason):
            self._runner.reason = "; ".join(filter(None, (trouble_of(*server) for server in self._servers)))
            self._verified_at = time.monotonic()

    def _tell(self) -> None:
        """Replaces the file in one step; on a full disk the old one stays and goes stale, which is true."""
        part = self._folder / f".status.json.{os.getpid()}"
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self._runner.as_json()) + "\n")
            part.chmod(0o644)
            part.replace(self._folder / "status.json")

    def _is_told_to_end(self) -> bool:
        return self._runner.is_stopping

    def _on_signal(self, number: int, _: object) -> None:
        self._runner.is_stopping = True
        if self._child is not None:
            self._child.terminate()


def trouble_of(url: str, token: str) -> str:
    """Why a server would give this runner no job; "" where it knows it."""
    address = urlsplit(url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/api/v4/runners/verify", json.dumps({"token": token}), headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{url} does not answer ({error or type(error).__name__})"
    finally:
        connection.close()
    if answer.status in (403, 404, 422):
        return f"{url} does not know this runner any more ({answer.status})"
    return "" if answer.status == 200 else f"{url} answered {answer.status}"


def stock_version(program: str) -> str:
    """The second word of `Version: 16.11.0`; "" where it says nothing."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    words = done.stdout.split()
    return words[1] if done.returncode == 0 and words[:1] == ["Version:"] else ""


def _gpus(path: Path) -> list[dict[str, Any]]:
    try:
        return [dict(gpu) for gpu in json.loads(path.read_text())]
    except (OSError, ValueError):
        return []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main() -> None:
    program, folder = sys.argv[1:]
    raise SystemExit(Watch(program, Path(folder)).run())


if __name__ == "__main__":
    main()
