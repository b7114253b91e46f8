"""What is decided at the first start and remembered: ports, addresses, executor, slots.

Clones, bookmarks and runners hold on to the addresses: so a second start must find the same ones.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nautilus.appliance.errors import PortTaken
from nautilus.appliance.executor import Choice, choose_executor
from nautilus.appliance.ports import can_bind
from nautilus.appliance.settings import ApplianceSettings

_PREFERRED = {"web": 8080, "management": 8081, "gitlab": 10080}
_IN_IMAGE = {"web": 80, "management": 8081, "gitlab": 10080}


@dataclass(frozen=True)
class Plan:
    """One appliance's decisions. `listen`: addresses that the gateway binds; `slots`: jobs at a time."""

    ports: dict[str, int]
    listen: list[str]
    external_url: str
    gitlab_external_url: str
    executor: str
    executor_reason: str
    job_image: str
    slots: int
    docker_network: str = ""
    extra_hosts: list[str] = field(default_factory=list)
    job_host: str = ""
    """Host name under which jobs reach the gateway; '' = as the external URL says."""

    @property
    def gitlab_url(self) -> str:
        """GitLab's API as this machine reaches it."""
        return f"http://127.0.0.1:{self.ports['gitlab']}"

    @property
    def web_url(self) -> str:
        """The gateway's web port as this machine reaches it."""
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def job_gitlab_url(self) -> str:
        return f"http://{self.job_host}:{self.ports['gitlab']}" if self.job_host else self.gitlab_url

    @property
    def job_web_url(self) -> str:
        return f"http://{self.job_host}:{self.ports['web']}" if self.job_host else self.web_url


def ensure_plan(settings: ApplianceSettings) -> Plan:
    """The plan to run with; stored so that the next start finds it. Raises PortTaken."""
    path = settings.layout.appliance_file
    plan = make_plan(settings, read_plan(path))
    _refuse_taken_ports(plan)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(plan), indent=2) + "\n")
    new.replace(path)
    return plan


def read_plan(path: Path) -> Plan | None:
    """The stored plan, None where there is none (or one that cannot be read: it is made again)."""
    try:
        return Plan(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def make_plan(settings: ApplianceSettings, previous: Plan | None, choice: Choice | None = None) -> Plan:
    """What is set wins, then what was before, then a free port near the usual one."""
    choice = choice or choose_executor(settings)
    listen = [settings.listen] if settings.listen else ["0.0.0.0" if settings.in_image else "127.0.0.1"]
    if choice.gateway_address and listen == ["127.0.0.1"]:
        listen.append(choice.gateway_address)
    ports = _ports(settings, previous, listen)
    web, gitlab = ports["web"], ports["gitlab"]
    external = settings.external_url or ("http://localhost" if web == 80 else f"http://localhost:{web}")
    return Plan(
        ports=ports,
        listen=listen,
        external_url=external,
        gitlab_external_url=settings.gitlab_external_url or _with_port(external, gitlab),
        executor=choice.executor,
        executor_reason=choice.reason,
        job_image=choice.image,
        slots=settings.slots or max(1, os.cpu_count() or 1),
        docker_network=choice.network,
        extra_hosts=list(choice.extra_hosts),
        job_host=choice.job_host,
    )


def _with_port(url: str, port: int) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.rsplit(":", 1)[0] if ":" in rest and not rest.endswith("]") else rest
    return f"{scheme}://{host}:{port}"


def _ports(settings: ApplianceSettings, previous: Plan | None, listen: list[str]) -> dict[str, int]:
    asked = {
        "web": settings.web_port,
        "management": settings.management_port,
        "gitlab": settings.gitlab_port,
    }
    chosen: dict[str, int] = {}
    for name, port in asked.items():
        fixed = (
            port
            or (previous.ports.get(name) if previous else None)
            or (_IN_IMAGE[name] if settings.in_image else None)
        )
        chosen[name] = int(fixed or 0) or _free_port(_PREFERRED[name], listen, chosen.values())
    return chosen


def _free_port(preferred: int, listen: list[str], taken: Iterable[int]) -> int:
    in_use = set(taken)
    candidates: list[int] = [preferred, *range(preferred + 1000, preferred + 1200)]
    for port in candidates:
        if port not in in_use and all(can_bind(address, port) for address in listen):
            return port
    with socket.socket() as any_port:
        any_port.bind((listen[0], 0))
        return int(any_port.getsockname()[1])


def _refuse_taken_ports(plan: Plan) -> None:
    for name, port in plan.ports.items():
        for address in plan.listen:
            if not can_bind(address, port):
                setting = {"web": "NAUTILUS_PORT"}.get(name, f"NAUTILUS_{name.upper()}_PORT")
                raise PortTaken(
                    f"port {port} ({name}) on {address} is taken by another program: end that program "
                    f"(`ss -ltnp sport = :{port}` names it) or set {setting} to a free port"
                )
