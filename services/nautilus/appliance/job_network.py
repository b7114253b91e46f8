"""By which Docker network job containers reach the gateway, and at which address.

| the appliance is              | jobs are on                  | they reach it at                            |
|-------------------------------|------------------------------|---------------------------------------------|
| a container                   | its first network, or        | its address there (an extra host: the       |
|                               | NAUTILUS_JOB_NETWORK         | default bridge has no DNS)                  |
| a container with the host's   | the default bridge, or       | the host's address on that bridge           |
| network, or no container      | NAUTILUS_JOB_NETWORK         |                                             |
| any of them                   | `host`                       | as the host itself does                     |
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nautilus.appliance.docker_socket import Daemon, own_container
from nautilus.appliance.errors import SettingError
from nautilus.appliance.ports import can_bind

_SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class Way:
    """`network`: of the jobs, '' = Docker's default. `address`: ours as they see it, '' = no name is needed or known.

    `is_gateway`: the address is this machine's on a bridge, so the gateway must listen there.
    """

    network: str = ""
    address: str = ""
    is_gateway: bool = False


def find_way(docker: Daemon, in_image: bool, wanted: str, container: Any = None) -> Way | None:
    """None where no bridge has an address of this machine. Raises SettingError where `wanted` cannot be used."""
    container = (container or own_container(docker)) if in_image else None
    if container and (container.get("HostConfig") or {}).get("NetworkMode") != "host":
        return _from_container(docker, container, wanted)
    if in_image and container is None:
        return Way(wanted)  # another machine's daemon: jobs come by the external addresses
    if wanted == "host":
        return Way("host")
    found = _network(docker, wanted or "bridge")
    address = _bridge_address(found)
    return Way(wanted, address, is_gateway=True) if address else None


def interface_addresses() -> list[str]:
    """IPv4 addresses of this machine's (or container's) network interfaces, but for loopback's."""
    found = [_address_of(name) for _, name in socket.if_nameindex()]
    return [address for address in found if address and not address.startswith("127.")]


def _from_container(docker: Daemon, container: Any, wanted: str) -> Way:
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = {name: network["IPAddress"] for name, network in networks.items() if network.get("IPAddress")}
    first = next(iter(addresses.items()), ("", ""))
    if wanted == "host":
        return Way("host", first[1])
    if not wanted:
        return Way(*first)
    if wanted in addresses:
        return Way(wanted, addresses[wanted])
    _network(docker, wanted)
    name = str(container.get("Name", "")).lstrip("/") or "NAME"
    raise SettingError(
        f"NAUTILUS_JOB_NETWORK={wanted!r}: this container is not on that network, so jobs there could not reach it: "
        f"`docker network connect {wanted} {name}` (or start it with --network {wanted}), then start again"
    )


def _network(docker: Daemon, name: str) -> dict[str, Any]:
    found = docker.get(f"/networks/{quote(name, safe='')}")
    if found is None and name != "bridge":
        raise SettingError(
            f"NAUTILUS_JOB_NETWORK={name!r}: the Docker daemon has no such network: make it "
            f"(`docker network create {name}`), or name one of `docker network ls`"
        )
    return found or {}


def _bridge_address(network: dict[str, Any]) -> str:
    """This machine's address on a bridge, "" where it has none (a daemon without one, or afar)."""
    configs = (network.get("IPAM") or {}).get("Config") or [{}]
    options = network.get("Options") or {}
    usual = (
        f"br-{str(network.get('Id', ''))[:12]}" if network.get("Name") not in (None, "bridge") else "docker0"
    )
    interface = options.get("com.docker.network.bridge.name", usual)
    for address in (configs[0].get("Gateway", ""), _address_of(interface)):
        if address and can_bind(address):
            return str(address)
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
