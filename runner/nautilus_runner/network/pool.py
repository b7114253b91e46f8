"""Networks of jobs: each job has one for itself while it runs, and they are used again.

A network that is there already costs a job nothing; making one takes a tenth of a second or two. What there is, and
which job has what, is read from the daemon at the first use: labels on networks and containers say it, so that a
restarted runner finds its own again. Everything here blocks and is called in threads.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from docker.errors import APIError, DockerException, NotFound

from nautilus_runner.errors import SystemFailure
from nautilus_runner.executors import containers, images
from nautilus_runner.network import plane as planes
from nautilus_runner.network.plane import Plane

log = logging.getLogger(__name__)

FULL, INTERNAL, CLOSED = "full", "internal", "closed"
"""Kinds: with a way out; with forwarders alone; with nothing but the job's services."""
LABEL_KIND = "org.nautilus.runner.kind"
LABEL_BRIDGE = "org.nautilus.runner.bridge"
_READY_S = 20.0
_GUARD_S = 30.0
_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
_KEPT = 8  # unused networks, at most: a daemon has addresses for some thirty


@dataclass(slots=True)
class JobNetwork:
    """`forwarders`: their addresses on it, in the order of the plane's groups. `job`: whose it is now, "" nobody's."""

    name: str
    kind: str
    plane: str
    bridge: str
    job: str = ""
    forwarders: tuple[str, ...] = field(default=())


class NetworkPool:
    """All networks that this runner made at one daemon. `warnings`: what an administrator should know."""

    def __init__(self, api: Any, system_id: str) -> None:
        self._api = api
        self._system_id = system_id
        self._networks: dict[str, JobNetwork] = {}
        self._is_read = False
        self._is_closed = False
        self._lock = threading.Lock()
        self.warnings: dict[str, str] = {}

    @property
    def used(self) -> set[str]:
        """The jobs that have a network."""
        with self._lock:
            return {network.job for network in self._networks.values() if network.job}

    def lease(self, plane: Plane, kind: str, job: str, *, has_forwarders: bool) -> JobNetwork:
        """A network for this job alone. Raises SystemFailure."""
        with self._lock:
            if self._is_closed:  # what is made now would be left behind
                raise SystemFailure("a network for the job: this runner is ending")
            try:
                found = self._leased(plane, kind, has_forwarders)
            except (DockerException, OSError) as error:
                raise SystemFailure(f"a network for the job: {_explained(error)}") from error
            found.job = job
            return found

    def _leased(self, plane: Plane, kind: str, has_forwarders: bool) -> JobNetwork:
        """Tried again where something is not found: a daemon refuses a new network with that while it removes
        somebody else's."""
        for pause_s in _PAUSES_S:
            try:
                return self._found_or_made(plane, kind, has_forwarders)
            except NotFound as error:
                log.info("a network for a job, again: %s", images.explain(error))
                time.sleep(pause_s)
        return self._found_or_made(plane, kind, has_forwarders)

    def _found_or_made(self, plane: Plane, kind: str, has_forwarders: bool) -> JobNetwork:
        self._read()
        addresses = self._forwarders(plane) if has_forwarders else {}
        found = self._free(plane, kind, set(addresses)) or self._make(plane, kind, list(addresses))
        if has_forwarders:
            found.forwarders = self._addresses(plane, found)
        return found

    def release(self, job: str) -> None:
        """The job and its containers are gone. Never raises."""
        with self._lock:
            for network in [n for n in self._networks.values() if n.job == job]:
                try:
                    is_clean = self._guests(network) == 0
                except DockerException:
                    is_clean = False
                network.job = ""
                unused = sum(not other.job for other in self._networks.values())
                if not is_clean or unused > _KEPT:
                    self._remove(network)

    def close(self, is_job: Callable[[str], bool]) -> None:
        """Remove everything that no job uses, forwarders too where there is none left. Never raises.

        `is_job`: whether what has a network is a job that goes on without us, and no probe of ours.
        """
        with self._lock, contextlib.suppress(DockerException, OSError):
            self._is_closed = True
            if not self._is_read:
                return
            for network in self._networks.values():
                network.job = network.job if is_job(network.job) else ""
            used = {network.plane for network in self._networks.values() if network.job}
            for network in [n for n in self._networks.values() if not n.job]:
                self._remove(network)
            self._remove_forwarders(but=used)

    def tidy(self, kept: set[str]) -> None:
        """Remove the planes that the configuration no longer has, and no job uses. Raises DockerException."""
        with self._lock:
            self._read()
            used = kept | {network.plane for network in self._networks.values() if network.job}
            for network in [n for n in self._networks.values() if n.plane not in used]:
                self._remove(network)
            self._remove_forwarders(but=used)

    # ---- what there is

    def _read(self) -> None:
        if self._is_read:
            return
        jobs = self._jobs()
        for found in self._api.networks(filters={"label": self._label(planes.ROLE_NETWORK)}):
            labels = found["Labels"]
            name = found["Name"]
            self._networks[name] = JobNetwork(
                name,
                labels.get(LABEL_KIND, ""),
                labels.get(planes.LABEL_PLANE, ""),
                labels.get(LABEL_BRIDGE, ""),
                jobs.get(name, ""),
            )
        self._is_read = True

    def _jobs(self) -> dict[str, str]:
        """Which job is on which network, as their containers say."""
        filters = {"label": [f"{containers.LABEL_RUNNER}={self._system_id}", containers.LABEL_JOB]}
        listed = [found["Labels"] for found in self._api.containers(all=True, filters=filters)]
        return {
            labels[planes.LABEL_NETWORK]: labels[containers.LABEL_JOB]
            for labels in listed
            if planes.LABEL_NETWORK in labels
        }

    def _guests(self, network: JobNetwork) -> int:
        """How many containers but forwarders are on it."""
        there = (self._api.inspect_network(network.name).get("Containers") or {}).values()
        return sum(f"-way-{network.plane}-" not in found.get("Name", "") for found in there)

    def _free(self, plane: Plane, kind: str, forwarders: set[str]) -> JobNetwork | None:
        for network in list(self._networks.values()):
            if not network.job and network.kind == kind and network.plane == plane.key:
                try:
                    there = (self._api.inspect_network(network.name).get("Containers") or {}).values()
                except NotFound:
                    del self._networks[network.name]
                    continue
                if {found.get("Name", "") for found in there} == forwarders:
                    return network
                self._remove(network)  # somebody's container is on it, or a forwarder is not
        return None

    # ---- making

    def _make(self, plane: Plane, kind: str, forwarders: list[str]) -> JobNetwork:
        suffix = secrets.token_hex(4)
        bridge = f"{planes.BRIDGE_PREFIX}{suffix}"
        name = f"nautilus-{self._system_id[-6:]}-{kind}-{suffix}"
        labels = plane.labels(planes.ROLE_NETWORK) | {LABEL_KIND: kind, LABEL_BRIDGE: bridge}
        self._create(plane, kind, name, labels)
        network = self._networks[name] = JobNetwork(name, kind, plane.key, bridge)
        try:
            for forwarder in forwarders:
                self._api.connect_container_to_network(forwarder, name)
            if kind == FULL and plane.blocked:
                self._guard(plane)
        except DockerException:
            self._remove(network)
            raise
        return network

    def _create(self, plane: Plane, kind: str, name: str, labels: dict[str, str]) -> None:
        def create(ipam: dict[str, Any] | None) -> None:
            self._api.create_network(
                name,
                driver="bridge",
                internal=kind != FULL,
                options=planes.network_options(kind, labels[LABEL_BRIDGE]),
                labels=labels,
                ipam=ipam,
            )

        if not plane.subnets:
            create(None)
            return
        for subnet in planes.small_subnets(plane.subnets):
            try:
                create({"Driver": "default", "Config": [{"Subnet": subnet}]})
                return
            except APIError as error:
                if "overlaps" not in str(error.explanation):
                    raise
        raise SystemFailure(f"runners.docker.subnets: all of {plane.subnets} is in use")

    def _forwarders(self, plane: Plane) -> dict[str, dict[str, Any]]:
        """All forwarders of a plane, running: name and inspection."""
        found = {}
        for name, group in zip(plane.forwarders, plane.groups, strict=True):
            try:
                state = self._api.inspect_container(name)
            except NotFound:
                self._start_forwarder(plane, name, group)
                state = self._api.inspect_container(name)
            if not state["State"].get("Running"):
                self._api.start(name)
                self._await_ready(name)
                state = self._api.inspect_container(name)
            found[name] = state
        return found

    def _start_forwarder(self, plane: Plane, name: str, group: dict[int, Any]) -> None:
        if not plane.image:
            raise SystemFailure(
                "this daemon has no image of ours, which a way to the server needs: load nautilus-runner or "
                "nautilus-job there, or name one with Python 3.11 or later in runners.docker.helper_image"
            )
        self._api.create_container_from_config(planes.forwarder_config(plane, group), name=name)
        self._api.start(name)
        self._await_ready(name)

    def _await_ready(self, name: str) -> None:
        deadline = time.monotonic() + _READY_S
        while b"ready" not in self._api.logs(name, stdout=True, stderr=False):
            state = self._api.inspect_container(name)["State"]
            if not state.get("Running") or time.monotonic() > deadline:
                said = self._api.logs(name, stdout=False, stderr=True).decode(errors="replace").strip()
                self._api.remove_container(name, force=True)
                raise SystemFailure(f"the way to the server for jobs does not start: {said[-300:] or state}")
            time.sleep(0.05)

    def _addresses(self, plane: Plane, network: JobNetwork) -> tuple[str, ...]:
        found = []
        for name in plane.forwarders:
            there = self._api.inspect_container(name)["NetworkSettings"]["Networks"].get(network.name) or {}
            if not there.get("IPAddress"):
                raise SystemFailure(f"the forwarder {name} has no address on {network.name}")
            found.append(there["IPAddress"])
        return tuple(found)

    def _guard(self, plane: Plane) -> None:
        """Keep all bridges with a way out away from what is blocked. What fails is a warning, and not silent."""
        bridges = [n.bridge for n in self._networks.values() if n.kind == FULL and n.bridge]
        problem = self._guarded(plane, bridges) if plane.image else "the daemon has no image of ours"
        if problem:
            self.warnings["guard"] = f"jobs can reach {', '.join(plane.blocked)}: {problem}"
            log.warning("%s", self.warnings["guard"])
        else:
            self.warnings.pop("guard", None)

    def _guarded(self, plane: Plane, bridges: list[str]) -> str:
        made = self._api.create_container_from_config(planes.guard_config(plane, bridges))["Id"]
        try:
            self._api.start(made)
            if self._api.wait(made, timeout=_GUARD_S)["StatusCode"] == 0:
                return ""
            return str(self._api.logs(made).decode(errors="replace").strip()[-300:])
        except (DockerException, OSError) as error:
            return images.explain(error)
        finally:
            with contextlib.suppress(DockerException):
                self._api.remove_container(made, force=True, v=True)

    # ---- removing

    def _remove(self, network: JobNetwork) -> None:
        self._networks.pop(network.name, None)
        with contextlib.suppress(DockerException):
            found = self._api.inspect_network(network.name).get("Containers") or {}
            for container in found:
                self._api.disconnect_container_from_network(container, network.name, force=True)
            self._api.remove_network(network.name)

    def _remove_forwarders(self, but: set[str]) -> None:
        filters = {"label": self._label(planes.ROLE_FORWARDER)}
        for found in self._api.containers(all=True, filters=filters):
            if found["Labels"].get(planes.LABEL_PLANE) not in but:
                with contextlib.suppress(NotFound, APIError):
                    self._api.remove_container(found["Id"], force=True, v=True)

    def _label(self, role: str) -> list[str]:
        return [f"{containers.LABEL_RUNNER}={self._system_id}", f"{containers.LABEL_ROLE}={role}"]


def _explained(error: BaseException) -> str:
    text = images.explain(error)
    if "non-overlapping" in text:
        return (
            "the daemon has no addresses left for another network: remove some (`docker network prune`), or give "
            "jobs' networks a range of their own in runners.docker.subnets"
        )
    return text
