"""What is asked of a Docker daemon for the networks of jobs and what serves them: pure builders.

A plane is everything that registrations with the same addresses, image and home network share: its forwarders, and
the networks that they are on. Its `key` changes with each of these, so a new configuration gets a new plane.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.executors import containers
from nautilus_runner.network.addresses import Address, planes

LABEL_NETWORK = "org.nautilus.runner.network"
LABEL_PLANE = "org.nautilus.runner.plane"
ROLE_NETWORK, ROLE_FORWARDER, ROLE_GUARD = "network", "forwarder", "guard"
BRIDGE_PREFIX = "nr-"
_PYTHON = ("python3", "-I", "-S", "-B", "-c")
_NOBODY = "65534:65534"
_SMALL_BITS = 27  # of a network cut out of `subnets`: a job with some 25 services


@dataclass(frozen=True, slots=True)
class Plane:
    """`image`: an id of the daemon's, "" where it has none of ours (then there are no forwarders).

    `home`: the network from which the server is reached. `extra_hosts`: as `runners.docker.extra_hosts`. `links`:
    `container:name` of containers on Docker's default network, whose addresses are others after each start: the
    daemon tells the forwarders, also those of jobs that went on meanwhile.
    """

    system_id: str
    image: str
    home: str
    addresses: tuple[Address, ...]
    extra_hosts: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    subnets: str = ""
    links: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        parts = [
            self.image,
            self.home,
            *map(str, self.addresses),
            *self.extra_hosts,
            *self.blocked,
            self.subnets,
            *self.links,
        ]
        return hashlib.sha256("\n".join((*parts, program("forwarder"))).encode()).hexdigest()[:12]

    @property
    def groups(self) -> list[dict[int, Address]]:
        return planes(self.addresses)

    @property
    def forwarders(self) -> list[str]:
        """Their containers' names, one for each of `groups`."""
        return [f"nautilus-{self.system_id[-6:]}-way-{self.key}-{n}" for n in range(len(self.groups))]

    def labels(self, role: str) -> dict[str, str]:
        """No job's: what looks for orphaned jobs leaves it alone."""
        return {
            containers.LABEL_RUNNER: self.system_id,
            containers.LABEL_ROLE: role,
            LABEL_PLANE: self.key,
        }


def program(name: str) -> str:
    """The source of a program that runs in a container of its own."""
    return Path(__file__).with_name(f"{name}.py").read_text("utf-8")


def forwarder_config(plane: Plane, group: dict[int, Address]) -> dict[str, Any]:
    """The body of POST /containers/create. It has no right but to listen, and nothing to write to."""
    forward = {str(port): [address.host, address.port] for port, address in group.items()}
    host = {
        **powerless(),
        "NetworkMode": plane.home or "bridge",
        "ExtraHosts": list(plane.extra_hosts),
        "Links": list(plane.links),
        "Sysctls": {"net.ipv4.ip_forward": "0", "net.ipv4.ip_unprivileged_port_start": "0"},
        "RestartPolicy": {"Name": "on-failure"},  # it ends by itself where it leads nowhere any more
        "Memory": 256 << 20,
    }
    return _container(plane, ROLE_FORWARDER, host, {"FORWARD": json.dumps(forward)}, "forwarder", _NOBODY)


def guard_config(plane: Plane, bridges: Sequence[str]) -> dict[str, Any]:
    """The body of POST /containers/create for the program that keeps bridges away from `blocked`."""
    host = {**powerless(), "NetworkMode": "host", "CapAdd": ["NET_ADMIN"]}
    wanted = json.dumps({"bridges": list(bridges), "blocked": list(plane.blocked)})
    return _container(plane, ROLE_GUARD, host, {"GUARD": wanted}, "guard", "0:0")


def network_options(kind: str, bridge: str) -> dict[str, str]:
    """Driver options. A network without a way out has no address of the host's on its bridge either."""
    options = {"com.docker.network.bridge.name": bridge}
    if kind != "full":
        options["com.docker.network.bridge.inhibit_ipv4"] = "true"
    return options


def small_subnets(within: str) -> list[str]:
    """The subnets that `runners.docker.subnets` has room for, in order."""
    return [str(net) for net in ipaddress.ip_network(within).subnets(new_prefix=_SMALL_BITS)]


def powerless() -> dict[str, Any]:
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/var/lib/nautilus-runner": "size=64k"},  # in place of the volume that our image declares
        "PidsLimit": 64,
        "Init": True,
        "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}},
    }


def _container(
    plane: Plane, role: str, host: dict[str, Any], environment: dict[str, str], name: str, user: str
) -> dict[str, Any]:
    return containers.container_config(
        plane.image,
        host=host,
        environment=environment,
        labels=plane.labels(role),
        command=[*_PYTHON[1:], program(name)],
        entrypoint=[_PYTHON[0]],
        user=user,
    )
