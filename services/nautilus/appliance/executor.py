"""With Docker where a daemon answers and an image is at hand, else as processes; and why."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from nautilus.appliance.docker_socket import DockerSocket, own_container
from nautilus.appliance.job_network import find_way
from nautilus.appliance.settings import ApplianceSettings

DEFAULT_JOB_IMAGE = "nautilus-job"
JOB_HOST = "nautilus"
"""Name under which jobs in containers reach the gateway (an extra host of each job container)."""


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
    way = find_way(docker, settings.in_image, settings.job_network or "")
    if way is None:
        return Choice(
            "process", "Docker's bridge network has no address of this machine; jobs run as processes"
        )
    host = (f"{JOB_HOST}:{way.address}",) if way.address else ()
    listens = way.address if way.is_gateway else ""
    return Choice("docker", reason, image, way.network, host, JOB_HOST if host else "", listens)


def _own_image(docker: DockerSocket) -> str | None:
    container = own_container(docker)
    return container["Image"] if container else None
