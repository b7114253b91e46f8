"""Asks each component how it is, with short time limits. Management itself is one of them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from nautilus.gitlab.port import GitLab, ServerCheck
from nautilus.health.listening import is_listened_on
from nautilus.health.words import TAKES_NO_JOBS
from nautilus.readiness import Readiness

CACHE_S = 0.5
CACHE_UNREADY_S = 0.1
PROBE_TIMEOUT_S = 2.0
RUNNER_SILENT_AFTER_S = 15.0
"""The runner rewrites its status file each 5 s."""


_TAKES_NO_JOBS = ("draining", "full")
"""It answers, and says why it takes none: starting the appliance again would not help."""


class ComponentState(StrEnum):
    READY = "ready"
    STARTING = "starting"
    WAITING = "waiting"
    FAILED = "failed"
    DOWN = "down"


@dataclass(frozen=True)
class Component:
    name: str
    state: ComponentState
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "state": str(self.state), "detail": self.detail}


@dataclass(frozen=True)
class Health:
    components: list[Component]

    @property
    def is_ready(self) -> bool:
        return all(component.state is ComponentState.READY for component in self.components)

    def as_json(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "components": [component.as_json() for component in self.components]}


class Probes:
    """One per process; a result is kept for half a second (a tenth while we are not ready), so that asking
    often costs nothing. `runner_file` None: the appliance has no runner of its own. `gitlab_file`: what the
    program `gitlab` says of itself, in the full edition. `sshd_port` None: there is no SSH here; `registry_socket`
    None: no container registry."""

    def __init__(
        self,
        readiness: Readiness,
        gitlab: GitLab,
        runner_file: Path | None,
        provision_file: Path,
        gitlab_file: Path | None = None,
        sshd_port: int | None = None,
        registry_socket: Path | None = None,
    ) -> None:
        self._readiness = readiness
        self._gitlab = gitlab
        self._runner_file = runner_file
        self._provision_file = provision_file
        self._gitlab_file = gitlab_file
        self._sshd_port = sshd_port
        self._registry_socket = registry_socket
        self._lock = asyncio.Lock()
        self._kept: Health | None = None
        self._kept_at = 0.0

    async def health(self) -> Health:
        async with self._lock:
            kept_s = CACHE_S if self._kept is not None and self._kept.is_ready else CACHE_UNREADY_S
            if self._kept is None or time.monotonic() - self._kept_at > kept_s:
                self._kept = await self._ask()
                self._kept_at = time.monotonic()
            return self._kept

    async def _ask(self) -> Health:
        reason, server = await asyncio.gather(
            self._readiness.check(), self._gitlab.check(timeout_s=PROBE_TIMEOUT_S)
        )
        is_database_up = reason is None or "schema" in reason
        postgres = _component("postgres", is_database_up, "answers", reason or "", ComponentState.DOWN)
        forge = server_component(server, self._gitlab_file)
        management = _component("management", reason is None, "serves", reason or "", ComponentState.WAITING)
        gateway = _component(
            "gateway", server.is_reached, "answers", "GitLab's address does not answer", ComponentState.DOWN
        )
        runners = [] if self._runner_file is None else [runner_component(self._runner_file)]
        provision = provision_component(self._provision_file)
        sshd = [] if self._sshd_port is None else [sshd_component(self._sshd_port)]
        registry = [] if self._registry_socket is None else [await registry_component(self._registry_socket)]
        return Health([postgres, forge, management, gateway, *registry, *sshd, *runners, provision])


async def registry_component(socket: Path) -> Component:
    """Whether the registry answers. Source: distribution's API, `GET /v2/` (401 without a token)."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"GET /v2/ HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return Component("registry", ComponentState.STARTING, "it does not answer yet")
    does_answer = status.split(b" ")[1:2] in ([b"401"], [b"200"])
    told = status.decode("latin-1").strip()
    return _component("registry", does_answer, "answers", f"it answers {told}", ComponentState.FAILED)


def sshd_component(port: int) -> Component:
    """Whether sshd listens; in the first start it makes its host keys before it does."""
    good, bad = f"listens on port {port}", f"nothing listens on port {port} yet"
    return _component("sshd", is_listened_on(port), good, bad, ComponentState.STARTING)


def server_component(server: ServerCheck, gitlab_file: Path | None) -> Component:
    """The forge, or GitLab CE: which is for minutes being configured before its address answers."""
    if gitlab_file is None:
        return _component("forge", server.is_ready, server.detail, server.detail, ComponentState.DOWN)
    if server.is_ready:
        return Component("gitlab", ComponentState.READY, server.detail)
    said = _read(gitlab_file) or {}
    detail = str(said.get("detail") or "it has not begun")
    match said.get("state"):
        case "failed":
            return Component("gitlab", ComponentState.FAILED, detail)
        case "running":
            return Component("gitlab", ComponentState.STARTING, f"its services start: {server.detail}")
        case _:
            return Component("gitlab", ComponentState.STARTING, detail)


def runner_component(path: Path) -> Component:
    """From the bundled runner's status file: fresh and ready, or why not.

    One that was told to take no jobs, or has no room on its disk for any, works as it should.
    """
    status = _read(path)
    if status is None:
        return Component("runner", ComponentState.STARTING, "it has not written its status yet")
    age_s = _age_s(status.get("updated_at"))
    if age_s is None or age_s > RUNNER_SILENT_AFTER_S:
        since = "" if age_s is None else f" since {age_s:.0f} s"
        return Component("runner", ComponentState.DOWN, f"it is silent{since}")
    if status.get("state") == "ready":
        executors = ", ".join(str(name) for name in status.get("executors") or [])
        return Component("runner", ComponentState.READY, f"executor {executors}" if executors else "ready")
    reason = str(status.get("reason") or status.get("state") or "waits")
    if status.get("state") in _TAKES_NO_JOBS:
        return Component("runner", ComponentState.READY, f"{TAKES_NO_JOBS}: {reason}")
    return Component("runner", ComponentState.WAITING, reason)


def provision_component(path: Path) -> Component:
    """From the provision step's progress file."""
    progress = _read(path)
    if progress is None:
        return Component("provision", ComponentState.STARTING, "it has not begun")
    step, detail = str(progress.get("step") or ""), str(progress.get("detail") or "")
    match progress.get("state"):
        case "ready":
            return Component("provision", ComponentState.READY, "done")
        case "failed":
            return Component("provision", ComponentState.FAILED, detail or f"{step} failed")
        case _:
            return Component("provision", ComponentState.STARTING, detail or step)


def _component(name: str, is_ready: bool, good: str, bad: str, bad_state: ComponentState) -> Component:
    return Component(name, ComponentState.READY if is_ready else bad_state, good if is_ready else bad)


def _read(path: Path) -> dict[str, Any] | None:
    """The file's object; None where it is missing or (just being made) not whole."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _age_s(updated_at: object) -> float | None:
    """Seconds since `updated_at`: Unix time or ISO 8601."""
    if isinstance(updated_at, int | float) and not isinstance(updated_at, bool):
        return max(0.0, time.time() - updated_at)
    try:
        moment = datetime.fromisoformat(str(updated_at))
    except ValueError:
        return None
    return max(
        0.0, (datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
    )
