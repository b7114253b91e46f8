"""Services of a job: waited for until one of their ports is open, and their output told where that is asked for.

Source: gitlab-runner 16.11 `executors/docker/services.go`, `commands/helpers/health_check.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docker.errors import DockerException

_POLL_S = 0.15
_DIAL_S = 0.3
_MAX_PORTS = 20
_LISTENING = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000")
_LAST_LINES = 50
_CAT = ["cat", "/proc/net/tcp", "/proc/net/tcp6"]
_PORT_VARIABLE = "HEALTHCHECK_TCP_PORT"
_OPEN = "open"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Service:
    """A started container; `name` is for people."""

    container: str
    name: str


async def wait_for(api: Any, services: Sequence[Service], say: Say, timeout_s: float) -> None:
    """Return when each has an open port, has ended, or the time is over: which is told, and harms nothing."""
    if services and timeout_s > 0:
        say(f"Waiting for services to be up and running (timeout {timeout_s:g} seconds)...")
        await asyncio.gather(*(_wait(api, service, say, timeout_s) for service in services))


async def _wait(api: Any, service: Service, say: Say, timeout_s: float) -> None:
    problem = ""
    try:
        async with asyncio.timeout(timeout_s):
            while problem == "":
                problem = await asyncio.to_thread(_look, api, service.container)
                if problem == "":
                    await asyncio.sleep(_POLL_S)
    except TimeoutError:
        problem = f"no port of it was open after {timeout_s:g} s"
    except DockerException as error:
        problem = f"it can't be looked at: {error}"
    if problem != _OPEN:
        lines = await asyncio.to_thread(_last_lines, api, service.container)
        told = [f"*** WARNING: Service {service.name} probably didn't start properly: {problem}"]
        say("\n".join([*told, *(f"  {line}" for line in lines)]))  # as one: other output comes between


def _look(api: Any, container: str) -> str:
    """`_OPEN`, what is wrong with it, or "" where it is yet to come. Blocking."""
    found = api.inspect_container(container)
    state = found["State"]
    if not state.get("Running"):
        return f"it ended with status {state.get('ExitCode')}"
    ports = ports_of(found["Config"].get("Env") or (), found["Config"].get("ExposedPorts") or {})
    if not ports:
        return f"its image exposes no port; name one in its variable {_PORT_VARIABLE}"
    addresses = [
        n.get("IPAddress") for n in found["NetworkSettings"]["Networks"].values() if n.get("IPAddress")
    ]
    if any(_answers(address, port) for address in addresses[:1] for port in ports):
        return _OPEN
    return _OPEN if set(ports) & _listening(api, container) else ""


def ports_of(environment: Iterable[str], exposed: Mapping[str, Any]) -> list[int]:
    """The ports to wait for, one of which is enough. Pure."""
    for entry in environment:
        name, _, value = entry.partition("=")
        if name.upper() == _PORT_VARIABLE:
            return [int(value)] if value.isascii() and value.isdigit() and int(value) < 1 << 16 else []
    found: list[int] = []
    for key in exposed:
        numbers, _, protocol = key.partition("/")
        if protocol in ("", "tcp") and re.fullmatch(r"\d{1,5}(-\d{1,5})?", numbers):
            first, _, last = numbers.partition("-")
            found += range(int(first), int(last or first) + 1)
    return sorted(found)[:_MAX_PORTS]


def _answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_DIAL_S)
        try:
            probe.connect((address, port))
        except OSError:
            return False
    return True


def _listening(api: Any, container: str) -> set[int]:
    """From inside, where we are not on its network; an image without `cat` tells nothing."""
    try:
        made = api.exec_create(container, _CAT, stdout=True, stderr=False)
        return listening_ports(api.exec_start(made["Id"]).decode(errors="replace"))
    except DockerException:
        return set()


def listening_ports(table: str) -> set[int]:
    """Of /proc/net/tcp and tcp6: the ports that others can connect to. Pure."""
    found = set()
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTENING and ":" in fields[1]:
            address, _, port = fields[1].partition(":")
            if address not in _LOOPBACK:
                found.add(int(port, 16))
    return found


def _last_lines(api: Any, container: str) -> list[str]:
    with contextlib.suppress(DockerException):
        said = api.logs(container, stdout=True, stderr=True, tail=_LAST_LINES)
        return [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return []


def tell_output(api: Any, service: Service, say: Say) -> None:
    """Carry a service's output into the job's log, line by line, until it ends (CI_DEBUG_SERVICES)."""
    loop = asyncio.get_running_loop()

    def tell(line: str) -> None:
        with contextlib.suppress(RuntimeError):  # the runner has gone
            loop.call_soon_threadsafe(say, f"[service:{service.name}] {line}")

    def follow() -> None:
        rest = b""
        with contextlib.suppress(DockerException, OSError):
            for part in api.logs(service.container, stdout=True, stderr=True, stream=True, follow=True):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    tell(line.decode(errors="replace").rstrip("\r"))
        if rest:
            tell(rest.decode(errors="replace"))

    threading.Thread(target=follow, name="service-output", daemon=True).start()
