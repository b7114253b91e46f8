"""With Docker where a daemon answers and an image is at hand, else as processes; and why."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nautilus.appliance.ports import can_bind
from nautilus.appliance.settings import ApplianceSettings

DEFAULT_JOB_IMAGE = "nautilus-job"
JOB_HOST = "nautilus"
"""Name under which jobs in containers reach the gateway (an extra host of each job container)."""

_TIMEOUT_S = 2.0
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class Choice:
    """The executor of the bundled runner. `gateway_address`: where the gateway must listen besides, for containers."""

    executor: str
    reason: str
    image: str = ""
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    job_host: str = ""
    gateway_address: str = ""


def choose_executor(settings: ApplianceSettings) -> Choice:
    """Looks at the Docker daemon, if any, through its socket (no client program is needed)."""
    if settings.executor == "process":
        return Choice("process", "NAUTILUS_EXECUTOR=process")
    docker = DockerSocket.from_environment()
    trouble, image = _find_image(docker, settings)
    if trouble is None and docker is not None:
        return _docker_choice(docker, image, settings)
    if settings.executor == "docker" or settings.in_image:
        return Choice("docker", f"{trouble}; jobs wait until that is mended", image)
    return Choice("process", f"{trouble}; jobs run as processes of this machine")


class DockerSocket:
    """The few questions that boot asks the Docker daemon, over its unix socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def from_environment(cls) -> DockerSocket | None:
        host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        path = host.removeprefix("unix://")
        return cls(path) if host.startswith("unix://") and Path(path).is_socket() else None

    def get(self, path: str) -> Any:
        """The JSON answer; None for 404. Raises OSError when the daemon does not answer."""
        connection = http.client.HTTPConnection("docker", timeout=_TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_TIMEOUT_S)
        try:
            connection.sock.connect(self.path)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"Docker's answer cannot be read: {error}") from error
        finally:
            connection.close()
        return json.loads(body) if answer.status == 200 else None


def _find_image(docker: DockerSocket | None, settings: ApplianceSettings) -> tuple[str | None, str]:
    """(trouble, image): trouble is None when the daemon answers and holds the image."""
    wanted = settings.job_image or DEFAULT_JOB_IMAGE
    if docker is None:
        return "no Docker daemon was found", wanted
    try:
        docker.get("/version")
        image = settings.job_image or (_own_image(docker) if settings.in_image else None) or DEFAULT_JOB_IMAGE
        if docker.get(f"/images/{quote(image, safe='')}/json") is not None:
            return None, image
    except OSError as error:
        return f"the Docker daemon at {docker.path} does not answer ({error})", wanted
    return f"the image {image} is not on this machine", image


def _docker_choice(docker: DockerSocket, image: str, settings: ApplianceSettings) -> Choice:
    reason = f"the Docker daemon answers and has {image}"
    if settings.in_image:
        network, address = _own_network(docker)
        host = (f"{JOB_HOST}:{address}",) if address else ()
        return Choice("docker", reason, image, network, host, JOB_HOST if address else "")
    gateway = _bridge_address(docker.get("/networks/bridge") or {})
    if not gateway:
        return Choice(
            "process", "Docker's bridge network has no address of this machine; jobs run as processes"
        )
    return Choice("docker", reason, image, "", (f"{JOB_HOST}:{gateway}",), JOB_HOST, gateway)


def _bridge_address(bridge: dict[str, Any]) -> str:
    """This machine's address on Docker's default bridge, "" where it has none (a daemon without one, or afar)."""
    configs = (bridge.get("IPAM") or {}).get("Config") or [{}]
    interface = (bridge.get("Options") or {}).get("com.docker.network.bridge.name", "docker0")
    for address in (configs[0].get("Gateway", ""), _address_of(interface)):
        if address and can_bind(address):
            return address
    return ""


def _address_of(interface: str) -> str:
    """IPv4 address of a network interface, "" where there is none. Source: netdevice(7), SIOCGIFADDR."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("256s", os.fsencode(interface)[:15])
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def interface_addresses() -> list[str]:
    """IPv4 addresses of this machine's (or container's) network interfaces, but for loopback's."""
    found = [_address_of(name) for _, name in socket.if_nameindex()]
    return [address for address in found if address and not address.startswith("127.")]


def _own_container(docker: DockerSocket) -> Any:
    """This container as the daemon sees it, None when we are in none of its containers."""
    return docker.get(f"/containers/{quote(socket.gethostname(), safe='')}/json")


def _own_image(docker: DockerSocket) -> str | None:
    container = _own_container(docker)
    return container["Image"] if container else None


def _own_network(docker: DockerSocket) -> tuple[str, str]:
    """(name, our address) of the first network of this container with an address."""
    container = _own_container(docker) or {}
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    for name, network in networks.items():
        if network.get("IPAddress"):
            return name, network["IPAddress"]
    return "", ""
