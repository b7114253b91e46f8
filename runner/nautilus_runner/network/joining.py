"""How one job's containers get their network: which one, and by which names they reach the server there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nautilus_runner.errors import JobMisconfigured
from nautilus_runner.executors import containers
from nautilus_runner.network.addresses import Address, renamed, server_addresses
from nautilus_runner.network.modes import NetworkMode
from nautilus_runner.network.plane import LABEL_NETWORK, Plane
from nautilus_runner.network.pool import CLOSED, FULL, INTERNAL, JobNetwork, NetworkPool
from nautilus_runner.settings import RunnerSettings

_OUR_IMAGES = ("nautilus-runner", "nautilus-job", "nautilus:lite")


@dataclass(frozen=True, slots=True)
class OwnContainer:
    """The container that the runner lives in, as the daemon knows it; all empty outside of one.

    `networks`: without Docker's default one; `address`: on that one, another after each start.
    """

    id: str = ""
    image: str = ""
    networks: tuple[str, ...] = ()
    address: str = ""

    def split_hosts(self, extra_hosts: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """`name:address` entries without those of our own address, and these as links: `container:name`."""
        own = [line for line in extra_hosts if self.address and line.partition(":")[2] == self.address]
        links = tuple(f"{self.id}:{line.partition(':')[0]}" for line in own)
        return tuple(line for line in extra_hosts if line not in own), links


@dataclass(frozen=True, slots=True)
class Joined:
    """`network`: none, host, or the name of the job's own. `hosts`: `name:address`. `led`: what goes by a forwarder."""

    network: str
    hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    led: tuple[Address, ...] = ()
    has_dns: bool = True

    def host_config(self) -> dict[str, Any]:
        """Its part of a container's HostConfig."""
        config: dict[str, Any] = {"NetworkMode": self.network, "ExtraHosts": list(self.hosts)}
        if self.dns:
            config["Dns"] = list(self.dns)
        if not self.has_dns:  # what can't be answered shall not be waited for
            config["DnsOptions"] = ["timeout:1", "attempts:1"]
        return config

    def labels(self) -> dict[str, str]:
        return {} if self.network in ("none", "host") else {LABEL_NETWORK: self.network}

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return renamed(environment, self.led)


class Networking:
    """Networks for the jobs at one daemon."""

    def __init__(self, api: Any, system_id: str, own: OwnContainer) -> None:
        self.api = api
        self._system_id = system_id
        self.own = own
        self.pool = NetworkPool(api, system_id)
        self._images: dict[str, str] = {}
        self._images_lock = threading.Lock()

    def join(self, settings: RunnerSettings, mode: NetworkMode, job: str, *, has_services: bool) -> Joined:
        """A network of the job's own. Blocking. Raises JobError."""
        if mode is NetworkMode.NONE:
            if not has_services:
                return Joined("none")
            leased = self.pool.lease(self.plane(settings), CLOSED, job, has_forwarders=False)
            return Joined(leased.name, has_dns=False)
        if mode is NetworkMode.FULL and settings.docker.network == "host" and not has_services:
            return Joined("host", settings.docker.extra_hosts)
        plane = self.plane(settings)
        if mode is NetworkMode.INTERNAL:
            return self._internal(plane, job)
        leads = self._is_led(settings) and bool(plane.addresses) and bool(plane.image)
        leased = self.pool.lease(plane, FULL, job, has_forwarders=leads)
        if not leads:
            return Joined(leased.name, settings.docker.extra_hosts)
        led = {a.host for a in plane.addresses}
        others = [line for line in settings.docker.extra_hosts if line.partition(":")[0].lower() not in led]
        return Joined(leased.name, (*others, *_led(plane, leased, literals=False)))

    def plane(self, settings: RunnerSettings) -> Plane:
        docker = settings.docker
        home = docker.network if docker.network not in ("", "host") else next(iter(self.own.networks), "")
        hosts, links = (docker.extra_hosts, ()) if home else self.own.split_hosts(docker.extra_hosts)
        return Plane(
            self._system_id,
            self.helper_image(docker.helper_image),
            home,
            server_addresses(settings),
            hosts,
            docker.blocked_networks,
            docker.subnets,
            links,
        )

    def tidy(self, served: Sequence[RunnerSettings]) -> None:
        """Remove what registrations before these had, and no job uses. Blocking; raises DockerException."""
        self.pool.tidy({self.plane(settings).key for settings in served})

    def helper_image(self, named: str) -> str:
        """The id of an image of ours that the daemon has; "" where it has none. Nothing is pulled."""
        with self._images_lock:
            if not self._images.get(named):
                candidates = [named] if named else [self.own.image, *_OUR_IMAGES]
                self._images[named] = next(filter(None, map(self._image_id, candidates)), "")
            return self._images[named]

    def _internal(self, plane: Plane, job: str) -> Joined:
        if not plane.addresses:
            raise JobMisconfigured(
                "network mode internal: this runner knows the server by a loopback address only, to which nothing "
                "leads from a container: name addresses in the runner's `reachable`"
            )
        leased = self.pool.lease(plane, INTERNAL, job, has_forwarders=True)
        hosts = _led(plane, leased, literals=True)
        return Joined(leased.name, hosts, leased.forwarders[:1], plane.addresses)

    def _is_led(self, settings: RunnerSettings) -> bool:
        """Whether the server may be on a network that jobs' own do not lead to: when we live in a container."""
        return bool(self.own.id or settings.docker.network not in ("", "host"))

    def _image_id(self, name: str) -> str:
        from docker.errors import APIError

        with contextlib.suppress(APIError):
            return str(self.api.inspect_image(name)["Id"]) if name else ""
        return ""


def own_container(api: Any) -> OwnContainer:
    """Blocking; one that the daemon does not know is none (it is another machine's)."""
    from docker.errors import DockerException

    own = containers.own_container_id(containers.read_mountinfo())
    if own is None:
        return OwnContainer()
    try:
        found = api.inspect_container(own)
    except DockerException:
        return OwnContainer()
    networks = found["NetworkSettings"]["Networks"]
    made = tuple(name for name in networks if name not in ("bridge", "host", "none"))
    return OwnContainer(own, found["Image"], made, networks.get("bridge", {}).get("IPAddress") or "")


def _led(plane: Plane, leased: JobNetwork, *, literals: bool) -> tuple[str, ...]:
    """`name:address` of the forwarder for each host of the server's; numbers get names where `literals`."""
    found = [
        f"{address.name}:{there}"
        for group, there in zip(plane.groups, leased.forwarders, strict=True)
        for address in group.values()
        if literals or not address.is_literal
    ]
    return tuple(dict.fromkeys(found))
