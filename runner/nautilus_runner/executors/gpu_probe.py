"""GPUs of a machine whose driver we cannot see: a container of our own image is given all of them and asked.

The appliance is started without `--gpus`, and so may be a runner in a container. Nothing is pulled: the image is the
one that we run from. A daemon without NVIDIA's container toolkit refuses to start the container; then there are none.
Source: Docker API 1.40 DeviceRequests; `nvidia-smi --help-query-gpu`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nautilus_runner.errors import JobError
from nautilus_runner.executors import containers
from nautilus_runner.gpu import Gpu, find_gpus
from nautilus_runner.gpus.limits import limits_of
from nautilus_runner.settings import Settings

log = logging.getLogger(__name__)

_PATIENCE_S = 60
"""The first use of a GPU since the machine started wakes the driver up, which takes its time."""
_QUERY = ["--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]

Daemon = Callable[[str], tuple[Any, tuple[str, ...]]]


def find_all(host: str) -> tuple[Gpu, ...]:
    """What the driver shows, else what the daemon at `host` ("" = DOCKER_HOST or the default socket) has."""
    limits = limits_of(os.environ)
    own = containers.own_container_id(containers.read_mountinfo())
    if (found := find_gpus()) or own is None:
        return limits.apply(found, is_whole_machine=own is None)
    from nautilus_runner.executors.factory import open_daemon

    try:
        return limits.apply(probe_gpus(open_daemon(host), own, "gpus"), is_whole_machine=True)
    except JobError as error:
        log.debug("no GPUs: %s", error)
        return ()


@dataclass(frozen=True, slots=True)
class Probed:
    """GPUs, and the daemon and our own container there by which they were found."""

    gpus: tuple[Gpu, ...] = ()
    api: Any = None
    own_container: str = ""


def ask_daemons(settings: Settings, daemon: Daemon, system_id: str) -> Probed:
    """What the first daemon that answers tells; nothing where we live in no container. Blocking."""
    own = containers.own_container_id(containers.read_mountinfo())
    hosts = dict.fromkeys(r.docker.host for r in settings.runners if r.executor == "docker")
    for host in hosts if own else ():
        with contextlib.suppress(JobError):
            api = daemon(host)[0]
            return Probed(probe_gpus(api, own or "", system_id), api, own or "")
    return Probed()


def probe_gpus(api: Any, own_container: str, system_id: str) -> tuple[Gpu, ...]:
    """The GPUs of the daemon's machine, in NVML's order. Blocking; trouble of any kind means none, with a word."""
    import docker
    import requests

    made = None
    try:
        _remove_leftovers(api, system_id)
        image = api.inspect_container(own_container)["Image"]
        made = api.create_container_from_config(probe_config(image, system_id))["Id"]
        api.start(made)
        status = int(api.wait(made, timeout=_PATIENCE_S)["StatusCode"])
        output = api.logs(made, stdout=True, stderr=False).decode(errors="replace")
    except docker.errors.APIError as error:
        log.debug("no GPUs: %s", error.explanation or error)
        return ()
    except (docker.errors.DockerException, requests.RequestException) as error:
        log.warning("GPUs are not looked for: %s", error)
        return ()
    finally:
        if made is not None:
            with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
                api.remove_container(made, force=True, v=True)
    if status != 0:
        log.warning("GPUs are not used: nvidia-smi ended with status %d in a container", status)
        return ()
    return parse_query(output)


def probe_config(image: str, system_id: str) -> dict[str, Any]:
    """The body of POST /containers/create. Pure."""
    request = {"Driver": "", "Count": -1, "Capabilities": [["gpu", "utility"]]}
    host = {
        "DeviceRequests": [request],
        "NetworkMode": "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
    }
    return containers.container_config(
        image,
        host=host,
        environment={"NVIDIA_DRIVER_CAPABILITIES": "utility"},
        labels=_labels(system_id),
        command=_QUERY,
        entrypoint=["nvidia-smi"],
    )


def _labels(system_id: str) -> dict[str, str]:
    """No job's: what looks for orphaned jobs leaves it alone."""
    return {containers.LABEL_RUNNER: system_id, containers.LABEL_ROLE: "gpu-probe"}


def _remove_leftovers(api: Any, system_id: str) -> None:
    """Of a runner that was killed in the middle of this."""
    wanted = [f"{key}={value}" for key, value in _labels(system_id).items()]
    for left in api.containers(all=True, filters={"label": wanted}):
        api.remove_container(left["Id"], force=True, v=True)


def parse_query(output: str) -> tuple[Gpu, ...]:
    """nvidia-smi's lines `GPU-uuid, name, MiB`; what is no such line is left out."""
    found = []
    for line in output.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0].startswith("GPU-") and parts[2].isdigit():
            found.append(Gpu(parts[0], parts[1], int(parts[2])))
    return tuple(found)
