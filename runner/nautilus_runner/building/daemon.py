"""One build at the daemon: its classic builder, which knows no frontends to fetch, and asks for no rights of ours.

Source: Docker Engine API 1.41, POST /build.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.errors import ImageBuildFailed

_PERIOD_US = 100_000


@dataclass(frozen=True, slots=True)
class Build:
    """What is built: `archive` holds the files, `dockerfile` names one of them. 0: no limit."""

    archive: Path
    dockerfile: str
    tag: str
    labels: Mapping[str, str]
    arguments: Mapping[str, str]
    target: str = ""
    network: str = "none"
    hosts: tuple[str, ...] = ()
    memory_mib: int = 0
    cpus: float = 0.0
    shm_mib: int = 64

    def parameters(self) -> dict[str, Any]:
        """The query of POST /build. Nothing is pulled: what it needs is there."""
        found: dict[str, Any] = {
            "version": "1",
            "dockerfile": self.dockerfile,
            "t": self.tag,
            "rm": 1,
            "forcerm": 1,
            "pull": 0,
            "labels": json.dumps(dict(self.labels)),
            "buildargs": json.dumps(dict(self.arguments)),
            "networkmode": self.network,
            "extrahosts": list(self.hosts),
            "shmsize": self.shm_mib << 20,
        }
        if self.target:
            found["target"] = self.target
        if self.memory_mib:
            found |= {"memory": self.memory_mib << 20, "memswap": self.memory_mib << 20}
        if self.cpus:
            found |= {"cpuperiod": _PERIOD_US, "cpuquota": int(self.cpus * _PERIOD_US)}
        return found


class Running:
    """A build under way. `run` blocks; `end` may be called from anywhere, and the daemon then ends what it does."""

    def __init__(self, api: Any, build: Build, say: Callable[[str], None]) -> None:
        self._api = api
        self._build = build
        self._say = say
        self._response: Any = None
        self._is_ended = threading.Event()

    def run(self) -> None:
        """Raises ImageBuildFailed with what the build's last words were; what the daemon refuses stays its error."""
        with self._build.archive.open("rb") as archive:
            self._response = self._api._post(
                self._api._url("/build"),
                data=archive,
                params=self._build.parameters(),
                headers={"Content-Type": "application/x-tar"},
                stream=True,
                timeout=None,
            )
        self._api._raise_for_status(self._response)
        if self._is_ended.is_set():
            self.end()
        with contextlib.closing(self._response):
            for event in self._api._stream_helper(self._response, decode=True):
                self._tell(event)

    def end(self) -> None:
        self._is_ended.set()
        if self._response is None:
            return
        with contextlib.suppress(OSError, AttributeError):  # it has ended by itself
            opened = self._api._get_raw_response_socket(self._response)
            getattr(opened, "_sock", opened).shutdown(socket.SHUT_RDWR)

    def _tell(self, event: Mapping[str, Any]) -> None:
        for line in str(event.get("stream") or event.get("status") or "").splitlines():
            if line.strip():
                self._say(line.rstrip())
        if error := event.get("error"):
            raise ImageBuildFailed(f"the image can't be built: {' '.join(str(error).split())[:500]}")
