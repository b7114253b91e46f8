"""What is decided at the first start and remembered: ports, addresses, executor, slots.

Clones, bookmarks and runners hold on to the addresses: so a second start must find the same ones, also one
with a newer or an older version of this program, whose plan has other fields.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from nautilus.appliance.addresses import host_of, is_local, make_url, port_of, with_port
from nautilus.appliance.errors import PortTaken
from nautilus.appliance.executor import JOB_HOST, Choice, choose_executor
from nautilus.appliance.ports import can_bind, has_ipv6
from nautilus.appliance.registry import choose_registry
from nautilus.appliance.settings import ApplianceSettings, tls_mode, trusted_ca_files

_PREFERRED = {
    "web": 8080,
    "management": 8081,
    "gitlab": 10080,
    "registry": 5050,
    "ssh": 2222,
    "web_tls": 8443,
    "database": 6000,
}
_IN_IMAGE = _PREFERRED | {"web": 80, "ssh": 22, "web_tls": 443}
_SETTINGS = {"web": "NAUTILUS_PORT", "web_tls": "NAUTILUS_TLS_PORT"}
"""The setting of a port, where it is not NAUTILUS_<NAME>_PORT."""

INNER_PLAIN_ADDRESS = "127.0.0.2"
"""Where the gateway speaks plain HTTP to this machine alone when its other addresses speak TLS: same ports.
All of 127.0.0.0/8 is this machine's (RFC 1122, 3.2.1.3)."""

_EVERYWHERE = ("0.0.0.0",)


@dataclass(frozen=True)
class Plan:
    """One appliance's decisions. `listen`: addresses that are bound; `slots`: jobs at a time.

    `ports` has web, management, gitlab, registry, ssh always; web_tls where we speak TLS; database where
    PostgreSQL listens on TCP. URLs have no slash at the end.
    """

    ports: dict[str, int]
    listen: list[str]
    external_url: str
    gitlab_external_url: str
    executor: str
    executor_reason: str
    job_image: str
    slots: int
    docker_network: str = ""
    job_network_mode: str = "full"
    """The most network that a job of the bundled runner gets: none, internal (this appliance only) or full."""
    job_reachable: list[str] = field(default_factory=list)
    """HOST:PORT that these jobs reach besides the appliance in each mode but none."""
    extra_hosts: list[str] = field(default_factory=list)
    job_host: str = ""
    """Host name under which jobs reach the gateway; '' = as this machine does itself."""
    registry_external_url: str = ""
    has_registry: bool = False
    ssh_host: str = "localhost"
    ssh_port: int = 22
    """The published port, as clone addresses have it; sshd itself listens on ports["ssh"]."""
    tls: str = "off"
    """off, files (a certificate of the user's), own-ca, or proxy (one before us speaks TLS)."""
    trusted_proxies: list[str] = field(default_factory=list)
    """Networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    job_url: str = ""
    """Pages and tracking as jobs reach them, where it was set; '' = derived."""
    job_gitlab_url_set: str = ""
    """GitLab as jobs reach it, where it was set; '' = derived."""
    bundled_runner: str = "nautilus"
    """nautilus (our runner), gitlab (a stock gitlab-runner) or off."""
    gitlab_runner: str = ""
    """A stock gitlab-runner's program, where one was named."""
    gitlab_runner_helper: str = ""
    """Its helper image; '' = its own."""

    instance: str = ""
    """By what this appliance is told from another (16 hex); chosen once, no secret."""
    ca_bundle: str = ""
    """PEM file of all CAs that the appliance and its jobs trust; '' = the system's are enough."""
    package_index: str = ""
    """Python package index of the jobs; '' = PyPI, or what their image has."""
    debian_mirror: str = ""

    @property
    def speaks_tls(self) -> bool:
        """Whether the gateway's own ports speak TLS."""
        return self.tls in ("files", "own-ca")

    @property
    def inner_address(self) -> str:
        """Where this machine's own programs reach the gateway, by plain HTTP."""
        return INNER_PLAIN_ADDRESS if self.speaks_tls else "127.0.0.1"

    @property
    def gitlab_url(self) -> str:
        """GitLab's API as this machine reaches it."""
        return f"http://{self.inner_address}:{self.ports['gitlab']}"

    @property
    def web_url(self) -> str:
        """The gateway's web port as this machine reaches it."""
        return f"http://{self.inner_address}:{self.ports['web']}"

    @property
    def job_gitlab_url(self) -> str:
        if self.job_gitlab_url_set:
            return self.job_gitlab_url_set
        if self.job_host:
            return f"{self._job_scheme}://{self.job_host}:{self.ports['gitlab']}"
        return self.gitlab_external_url if self._jobs_are_afar else self.gitlab_url

    @property
    def job_web_url(self) -> str:
        if self.job_url:
            return self.job_url
        if self.job_host:
            port = self.ports["web_tls" if self.speaks_tls else "web"]
            return f"{self._job_scheme}://{self.job_host}:{port}"
        return self.external_url if self._jobs_are_afar else self.web_url

    @property
    def _jobs_are_afar(self) -> bool:
        """Containers that share no network of ours: another machine's daemon runs them, or none was found yet."""
        return self.executor == "docker" and self.docker_network != "host"

    @property
    def _job_scheme(self) -> str:
        return "https" if self.speaks_tls else "http"


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
    """The stored plan, of whatever version; None where there is none, or what is there is no plan at all."""
    try:
        stored = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return _completed(stored) if isinstance(stored, dict) and stored.get("ports") else None


def make_plan(settings: ApplianceSettings, previous: Plan | None, choice: Choice | None = None) -> Plan:
    """What is set wins, then what was before, then a free port near the usual one."""
    choice = choice or choose_executor(settings)
    listen = _listen(settings, choice)
    mode = tls_mode(settings)
    ports = _ports(settings, previous, listen, mode)
    local = make_url("https", "localhost", ports["web_tls"]) if "web_tls" in ports else None
    external = settings.external_url or local or make_url("http", "localhost", ports["web"])
    job_host = _job_host(choice, external, mode)
    return Plan(
        ports=ports,
        listen=listen,
        external_url=external,
        gitlab_external_url=settings.gitlab_external_url or with_port(external, ports["gitlab"]),
        executor=choice.executor,
        executor_reason=choice.reason,
        job_image=choice.image,
        slots=settings.slots or max(1, os.cpu_count() or 1),
        docker_network=settings.job_network or choice.network,
        job_network_mode=settings.job_network_mode,
        job_reachable=list(settings.job_reachable),
        extra_hosts=_extra_hosts(choice, job_host),
        job_host=job_host,
        registry_external_url=settings.registry_external_url or with_port(external, ports["registry"]),
        has_registry=choose_registry(settings).is_on,
        ssh_host=settings.ssh_host or host_of(external),
        ssh_port=(settings.ssh_port if settings.in_image else None) or ports["ssh"],
        tls=mode,
        trusted_proxies=list(settings.trusted_proxies),
        instance=(previous.instance if previous else "") or secrets.token_hex(8),
        job_url=settings.job_url or "",
        job_gitlab_url_set=settings.job_gitlab_url or "",
        ca_bundle=str(settings.layout.ca_bundle) if mode == "own-ca" or trusted_ca_files(settings) else "",
        package_index=settings.package_index or "",
        debian_mirror=settings.debian_mirror or "",
        bundled_runner=settings.bundled_runner,
        gitlab_runner=settings.gitlab_runner or "",
        gitlab_runner_helper=settings.gitlab_runner_helper or "",
    )


def published_ports(plan: Plan) -> dict[str, int]:
    """Where the addresses that people use say that web, gitlab, registry and ssh are."""
    return {
        "web": port_of(plan.external_url),
        "gitlab": port_of(plan.gitlab_external_url),
        "registry": port_of(plan.registry_external_url),
        "ssh": plan.ssh_port,
    }


def _completed(stored: dict[str, Any]) -> Plan:
    """Another version's plan as this one's: what it does not know is dropped, what it lacks is derived."""
    known = {one.name for one in fields(Plan)}
    ports = {**{name: _PREFERRED[name] for name in ("web", "management", "gitlab")}, **stored["ports"]}
    external = stored.get("external_url") or make_url("http", "localhost", ports["web"])
    derived: dict[str, Any] = {
        "listen": ["127.0.0.1"],
        "external_url": external,
        "gitlab_external_url": with_port(external, ports["gitlab"]),
        "executor": "process",
        "executor_reason": "not known",
        "job_image": "",
        "slots": 1,
        "registry_external_url": with_port(external, ports.get("registry", _PREFERRED["registry"])),
        "ssh_host": host_of(external),
        "ssh_port": ports.get("ssh", _PREFERRED["ssh"]),
    }
    return Plan(
        **(derived | {name: value for name, value in stored.items() if name in known} | {"ports": ports})
    )


def _listen(settings: ApplianceSettings, choice: Choice) -> list[str]:
    """The addresses to bind: this machine's own programs and its containers must reach the gateway in any case."""
    if settings.in_image and not settings.listen:
        return ["0.0.0.0", "::"] if has_ipv6() else ["0.0.0.0"]
    listen = [settings.listen or "127.0.0.1"]
    wanted = ["127.0.0.1", *([choice.gateway_address] if choice.gateway_address else [])]
    if listen[0] in _EVERYWHERE:
        return listen
    return list(dict.fromkeys([*listen, *wanted]))


def _job_host(choice: Choice, external: str, mode: str) -> str:
    """With TLS, jobs use the name that the certificate has for sure, where it names one machine everywhere."""
    host = host_of(external)
    if choice.job_host and mode in ("files", "own-ca") and not is_local(host):
        return f"[{host}]" if ":" in host else host
    return choice.job_host


def _extra_hosts(choice: Choice, job_host: str) -> list[str]:
    """`NAME:ADDRESS` for each name under which job containers shall find the gateway."""
    hosts = list(choice.extra_hosts)
    for host in choice.extra_hosts:
        name, _, address = host.partition(":")
        if name == JOB_HOST and job_host not in (JOB_HOST, "") and any(c.isalpha() for c in job_host):
            hosts.append(f"{job_host}:{address}")
    return hosts


def _ports(
    settings: ApplianceSettings, previous: Plan | None, listen: list[str], mode: str
) -> dict[str, int]:
    asked = {
        "web": settings.web_port,
        "management": settings.management_port,
        "gitlab": settings.gitlab_port,
        "registry": settings.registry_port,
        "ssh": _ssh_port(settings, listen),
    }
    if mode in ("files", "own-ca"):
        asked["web_tls"] = settings.web_tls_port
    if settings.database_access != "off":
        asked["database"] = settings.database_port
    before = previous.ports if previous else {}
    chosen = {
        name: int(port or before.get(name) or (_IN_IMAGE[name] if settings.in_image else 0))
        for name, port in asked.items()
    }
    for name, number in chosen.items():
        if not number:
            chosen[name] = _free_port(_PREFERRED[name], listen, chosen.values())
    return chosen


def _ssh_port(settings: ApplianceSettings, listen: list[str]) -> int | None:
    """In the image the setting names the published port, unless there is none: on the host's own network."""
    if settings.in_image and all(can_bind(address, _IN_IMAGE["ssh"]) for address in listen):
        return _IN_IMAGE["ssh"]
    return settings.ssh_port


def _free_port(preferred: int, listen: list[str], taken: Iterable[int]) -> int:
    in_use = set(taken)
    candidates: list[int] = [preferred, *range(preferred + 1000, preferred + 1200)]
    for port in candidates:
        if port not in in_use and all(can_bind(address, port) for address in listen):
            return port
    with socket.socket(socket.AF_INET6 if ":" in listen[0] else socket.AF_INET) as any_port:
        any_port.bind((listen[0], 0))
        return int(any_port.getsockname()[1])


def setting_of(port_name: str) -> str:
    """The setting that chooses a port."""
    return _SETTINGS.get(port_name, f"NAUTILUS_{port_name.upper()}_PORT")


def _refuse_taken_ports(plan: Plan) -> None:
    seen: dict[int, str] = {}
    for name, port in plan.ports.items():
        if port in seen:
            raise PortTaken(
                f"port {port} is asked for twice ({seen[port]}, {name}): set {setting_of(name)} to another port"
            )
        seen[port] = name
        for address in plan.listen:
            if not can_bind(address, port):
                raise PortTaken(
                    f"port {port} ({name}) on {address} is taken by another program: end that program "
                    f"(`ss -ltnp sport = :{port}` names it) or set {setting_of(name)} to a free port"
                )
