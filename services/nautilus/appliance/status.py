"""What the appliance says of itself: for `nautilus up`, `status` and `doctor`. Health is honest or absent."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nautilus.appliance.errors import NotRunning
from nautilus.appliance.layout import Layout
from nautilus.appliance.plan import Plan, read_plan
from nautilus.appliance.processes import descendants, pss_mib
from nautilus.appliance.supervisor import Program, Supervisor
from nautilus.health.words import TAKES_NO_JOBS

_PROBE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class ServiceStatus:
    """One program: `pss_mib` of its whole process tree (None where it may not be read)."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None
    pss_mib: float | None
    detail: str


@dataclass(frozen=True)
class ApplianceStatus:
    """Stable shape of `nautilus status --json` (docs/reference/cli.md)."""

    ready: bool
    url: str
    services: list[ServiceStatus] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(layout: Layout) -> ApplianceStatus:
    """Raises NotRunning when no appliance runs on that data folder."""
    programs = Supervisor(layout).programs()
    plan = read_plan(layout.appliance_file)
    health = probe_health(plan) if plan else {}
    components = {str(c.get("name")): c for c in health.get("components", [])}
    supervisor_pid = _supervisor_pid(layout)
    services = [_service(program, components.get(program.name, {}), supervisor_pid) for program in programs]
    services.insert(0, _supervisor_service(supervisor_pid))
    return ApplianceStatus(bool(health.get("ready")), plan.external_url if plan else "", services)


def stopped_status(layout: Layout) -> ApplianceStatus:
    """The same shape for an appliance that does not run."""
    plan = read_plan(layout.appliance_file)
    return ApplianceStatus(False, plan.external_url if plan else "", [])


def is_ready(layout: Layout) -> bool:
    plan = read_plan(layout.appliance_file)
    return plan is not None and bool(probe_health(plan).get("ready"))


def probe_health(plan: Plan) -> dict[str, Any]:
    """The gateway's own answer to GET /-/health; {} when it does not answer, or another appliance has its port."""
    address = urlsplit(plan.web_url)
    connection = http.client.HTTPConnection(
        address.hostname or "127.0.0.1", address.port, timeout=_PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", "/-/nautilus")
        if connection.getresponse().read().decode("latin-1") != plan.instance:
            return {}
        connection.request("GET", "/-/health", headers={"Accept": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else {}


def waiting_for(layout: Layout) -> list[tuple[str, str, str]]:
    """(name, state, detail) of each component, as well as can be told while the appliance starts."""
    plan = read_plan(layout.appliance_file)
    health = probe_health(plan) if plan else {}
    if health.get("components"):
        return [(c["name"], c["state"], c.get("detail") or "") for c in health["components"]]
    try:
        return [
            (p.name, "starting" if p.state == "running" else p.state, p.detail)
            for p in Supervisor(layout).programs()
        ]
    except NotRunning:
        return []


def warnings(layout: Layout) -> list[str]:
    """What works, and still is not as people would have it."""
    return [f"the {name} {detail}" for name, _, detail in waiting_for(layout) if TAKES_NO_JOBS in detail]


def _service(program: Program, component: dict[str, Any], supervisor_pid: int | None) -> ServiceStatus:
    state = "off" if program.is_off else program.state
    if program.name == "provision" and state == "exited":
        state = "done" if component.get("state") in (None, "ready") else str(component["state"])
    elif state == "running" and component.get("state"):
        state = str(component["state"])
    return ServiceStatus(
        name=program.name,
        state=state,
        pid=program.pids[0] if program.pids else None,
        uptime_s=round(time.time() - program.started_at, 1) if program.started_at else None,
        pss_mib=_tree_pss_mib(program.pids),
        detail=str(component.get("detail") or program.detail),
    )


def _tree_pss_mib(pids: Sequence[int]) -> float | None:
    """Of all processes below these together; None where there are none, or one of them may not be read."""
    sizes = [pss_mib(child) for pid in pids for child in descendants(pid)]
    known = [size for size in sizes if size is not None]
    return round(sum(known), 1) if known and len(known) == len(sizes) else None


def _supervisor_service(pid: int | None) -> ServiceStatus:
    size = pss_mib(pid) if pid else None
    return ServiceStatus("supervisord", "running", pid, None, round(size, 1) if size else None, "")


def _supervisor_pid(layout: Layout) -> int | None:
    try:
        return int((layout.run / "supervisord.pid").read_text())
    except (OSError, ValueError):
        return None
