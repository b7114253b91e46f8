"""What is asked of a Docker daemon for a job: pure builders of names, labels and container settings."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from nautilus_runner.isolation_settings import Volume, parse_volume
from nautilus_runner.payload import Credentials, Image
from nautilus_runner.settings import DockerSettings, GpuCapability

BUILDS = "/builds"
DOCKER_SOCKET = "/var/run/docker.sock"
LABEL_RUNNER = "org.nautilus.runner.system-id"
LABEL_JOB = "org.nautilus.runner.job"
LABEL_ROLE = "org.nautilus.runner.role"
# A log of its own, kept to the byte (json-file would mend what is not UTF-8), never cut off
_LOG = {"Type": "local", "Config": {"max-size": "1000g", "max-file": "1", "compress": "false"}}
_CONTAINER_ID = re.compile(r"/containers/([0-9a-f]{64})/")


def labels(system_id: str, key: str, role: str) -> dict[str, str]:
    return {LABEL_RUNNER: system_id, LABEL_JOB: key, LABEL_ROLE: role}


def volume_mount(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The one volume of a job, which the daemon makes with these labels when it is first mounted."""
    return {"Type": "volume", "Source": name, "Target": BUILDS, "VolumeOptions": {"Labels": dict(labels)}}


def host_config(
    settings: DockerSettings,
    *,
    network: str,
    volume: str = "",
    volume_labels: Mapping[str, str] | None = None,
    gpus: Sequence[str] = (),
    gpu_capabilities: Sequence[str] = (),
) -> dict[str, Any]:
    """The limits of a job's container: one volume of its own, no privilege, no socket, no device but its GPUs."""
    config: dict[str, Any] = {
        "Mounts": [volume_mount(volume, volume_labels or {})] if volume else [],
        "NetworkMode": network or "bridge",
        "ExtraHosts": list(settings.extra_hosts),
        "CapDrop": list(settings.cap_drop),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": settings.pids_limit,
        "ShmSize": settings.shm_mib << 20,
        "Init": True,
        "LogConfig": _LOG,
        "AutoRemove": False,
        "RestartPolicy": {"Name": "no"},
    }
    if gpus and settings.runtime:  # it gives what the container's NVIDIA_VISIBLE_DEVICES says
        config["Runtime"] = settings.runtime
    elif gpus:
        wanted = ["gpu", *gpu_capabilities]
        config["DeviceRequests"] = [{"Driver": "", "DeviceIDs": list(gpus), "Capabilities": [wanted]}]
    return config


def gpu_capabilities(settings: DockerSettings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What of the driver a job with GPUs sees: as it asks (NVIDIA_DRIVER_CAPABILITIES), else as the settings say."""
    asked = environment.get("NVIDIA_DRIVER_CAPABILITIES", "")
    words = tuple(word.strip() for word in asked.split(",") if word.strip())
    return words if words and set(words) <= set(get_args(GpuCapability)) else settings.gpu_capabilities


def folder_mounts(settings: DockerSettings) -> list[dict[str, Any]]:
    """What an administrator gives to every job of a runner: folders of the host and, if need be, the socket."""
    folders = [parse_volume(text) for text in settings.volumes]
    if settings.allow_docker_socket:
        folders.append(Volume(DOCKER_SOCKET, DOCKER_SOCKET, is_read_only=False))
    return [
        {"Type": "bind", "Source": f.source, "Target": f.target, "ReadOnly": f.is_read_only} for f in folders
    ]


def container_config(
    image: str,
    *,
    host: Mapping[str, Any],
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    command: Sequence[str] | None,
    entrypoint: Sequence[str] | None,
    user: str = "",
    network: str = "",
    aliases: Sequence[str] = (),
    has_input: bool = False,
) -> dict[str, Any]:
    """The body of POST /containers/create. `has_input`: standard input stays open as long as we are attached."""
    config: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in environment.items() if "\0" not in value],
        "Labels": dict(labels),
        "HostConfig": dict(host),
        # An image's own check is about what it serves, not about a job: it would only cost.
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdin": has_input,
        "OpenStdin": has_input,
        "StdinOnce": has_input,
        "Tty": False,
    }
    if command is not None:
        config["Cmd"] = list(command)
    if entrypoint is not None:
        config["Entrypoint"] = list(entrypoint)
    if user:
        config["User"] = user
    if network and aliases:
        config["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": list(aliases)}}}
    return config


def service_aliases(service: Image) -> list[str]:
    """The names of a service: its own aliases, else two made of its image's name, as gitlab-runner makes them."""
    name = service.name.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    path = f"{head}{slash}{tail.partition(':')[0]}"
    path = path.replace(":", "")
    made = [path.replace("/", "__"), path.replace("/", "-")]
    return list(dict.fromkeys([*service.aliases, *made]))


def registry_of(image: str) -> str:
    """The registry's host of an image's name, as Docker reads it."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def pull_credentials(
    image: str, credentials: Sequence[Credentials], auth_config: str, own_logins: str = ""
) -> dict[str, str] | None:
    """What to log in with to pull `image`: the user's DOCKER_AUTH_CONFIG first, then the runner's own, then what the
    server gave."""
    registry = registry_of(image)
    for logins in (auth_config, own_logins):
        for host, pair in _auths(logins).items():
            if _same_registry(host, registry):
                return pair
    for given in credentials:
        if given.type == "registry" and _same_registry(given.url, registry):
            return {"username": given.username, "password": given.password}
    return None


def own_container_id(mountinfo: str) -> str | None:
    """The id of the container that we run in, from /proc/self/mountinfo; None outside of one."""
    found = _CONTAINER_ID.search(mountinfo)
    return found.group(1) if found else None


def read_mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""


def _auths(text: str) -> dict[str, dict[str, str]]:
    """The logins of a Docker `config.json`, by host; an entry that says none is left out."""
    try:
        entries = dict(json.loads(text)["auths"]).items() if text else ()
    except (ValueError, KeyError, TypeError):
        return {}
    found = {str(host): _login(entry) for host, entry in entries}
    return {host: login for host, login in found.items() if login is not None}


def _login(entry: Any) -> dict[str, str] | None:
    """From `auth` (name and password in base 64) or `username` and `password`."""
    try:
        if "auth" in entry:
            name, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return {"username": name, "password": password} if colon else None
        return {"username": str(entry["username"]), "password": str(entry["password"])}
    except (ValueError, KeyError, TypeError):
        return None


def _same_registry(url: str, registry: str) -> bool:
    host = url.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return (host.removeprefix("index.") or url) == registry
