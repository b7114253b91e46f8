"""The few questions that the appliance asks the Docker daemon; no client program or library is needed."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

_TIMEOUT_S = 2.0
_OWN_FILES = re.compile(r"/containers/([0-9a-f]{64})/")
"""Where the daemon keeps the files that it mounts into a container: /etc/hostname, /etc/hosts, /etc/resolv.conf."""


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


class Daemon(Protocol):
    """What is asked of a DockerSocket."""

    def get(self, path: str) -> Any: ...


def own_container(docker: Daemon, mountinfo: Path = Path("/proc/self/mountinfo")) -> Any:
    """This container as the daemon sees it, None when we are in none of its containers.

    By the daemon's own files, since the host name is another's with `--network host` or `--hostname`.
    """
    found = _OWN_FILES.findall(mountinfo.read_text()) if mountinfo.exists() else []
    for name in (*found[:1], socket.gethostname()):
        container = docker.get(f"/containers/{quote(name, safe='')}/json")
        if container:
            return container
    return None
