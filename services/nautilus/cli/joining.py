"""The exact commands with which a machine joins, for `nautilus runner add`. Pure: text from values.

The token is in an environment variable of the command's own, never among its arguments: those every user of the
machine can read. Source: `gitlab-runner register --help` (16.11: CI_SERVER_TOKEN), docs/reference/runner.md.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RUNNER_IMAGE = "nautilus-runner"
JOB_IMAGE = "python:3.13-slim"
"""What jobs run in on the new machine where they name no image."""

_VOLUME = "/var/lib/nautilus-runner"
_GPU_LOCKS = "/run/nautilus-gpus"
"""Where runners of one machine see which GPUs the others have given out (docs/reference/runner.md)."""
_SOCKET = "/var/run/docker.sock"
_DEVICE = re.compile(r"\d{1,3}|GPU-[0-9a-fA-F-]{4,}")
_HERE_ONLY = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Gpus:
    """Which GPUs of the machine a runner may give to jobs: all, none, or these (indices or UUIDs)."""

    are_all: bool = False
    devices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """From `all`, `none`, or names with commas. Raises ValueError, saying what would do."""
        word = text.strip().lower()
        if word in ("all", "none", ""):
            return cls(are_all=word == "all")
        devices = tuple(part.strip() for part in text.split(",") if part.strip())
        if not devices or not all(_DEVICE.fullmatch(device) for device in devices):
            raise ValueError(f"{text!r}: use all, none, or GPUs by number or UUID, as 0,1 or GPU-5b5c…")
        return cls(devices=tuple(dict.fromkeys(devices)))

    def __bool__(self) -> bool:
        return self.are_all or bool(self.devices)

    def __str__(self) -> str:
        return "all" if self.are_all else ",".join(self.devices) or "none"

    @property
    def docker_value(self) -> str:
        """Docker's `--gpus`, a CSV record: several devices are one quoted field."""
        return "all" if self.are_all else f'"device={",".join(self.devices)}"'


@dataclass(frozen=True)
class Joining:
    """One machine's runner, made at the server: what its commands are written with."""

    name: str
    url: str
    token: str = field(repr=False)
    gpus: Gpus = Gpus()
    image: str = RUNNER_IMAGE
    ca_file: str = ""
    """Path on that machine of a CA that it must trust besides; "" = none."""
    job_image: str = ""
    """What its jobs run in where they name no image; "" = JOB_IMAGE."""

    def commands(self) -> dict[str, str]:
        """Name → shell text; each is one line."""
        return {"gitlab_runner": self.gitlab_runner(), "docker": self.docker(), "pip": self.pip()}

    def gitlab_runner(self) -> str:
        """GitLab's own runner, 15.10 or newer (the first that knows `glrt-`)."""
        words = ["gitlab-runner", "register", "--non-interactive", "--url", self.url, "--name", self.name]
        words += ["--executor", "docker", "--docker-image", self.job_image or JOB_IMAGE]
        if self.gpus:
            words += ["--docker-gpus", self.gpus.docker_value]
        if self.ca_file:
            words += ["--tls-ca-file", self.ca_file]
        return f"CI_SERVER_TOKEN={self.token} {shlex.join(words)}"

    def docker(self) -> str:
        """Ours, in a container beside the jobs' containers."""
        container = f"nautilus-runner-{slug(self.name)}"
        words = ["docker", "run", "--detach", "--restart", "unless-stopped", "--name", container]
        words += ["--env", f"NAUTILUS_URL={self.url}", "--env", "NAUTILUS_RUNNER_TOKEN"]
        words += ["--env", f"NAUTILUS_RUNNER_NAME={self.name}"]
        if self.job_image:
            words += ["--env", f"NAUTILUS_RUNNER_IMAGE={self.job_image}"]
        words += ["--volume", f"{container}:{_VOLUME}", "--volume", f"{_SOCKET}:{_SOCKET}"]
        if self.ca_file:
            words += ["--volume", f"{self.ca_file}:/etc/nautilus/ca/server.crt:ro"]
        if self.gpus:
            words += ["--volume", f"{_GPU_LOCKS}:{_GPU_LOCKS}", "--gpus", self.gpus.docker_value]
        return f"NAUTILUS_RUNNER_TOKEN={self.token} {shlex.join([*words, self.image])}"

    def pip(self) -> str:
        """Ours, installed from a checkout or a wheel of Nautilus, as whoever types it."""
        words = ["nautilus-runner", "register", "--non-interactive", "--url", self.url, "--name", self.name]
        words += ["--executor", "docker", "--docker-image", self.job_image or JOB_IMAGE]
        if self.gpus and not self.gpus.are_all:
            words += ["--gpus", str(self.gpus)]
        if self.ca_file:
            words += ["--tls-ca-file", self.ca_file]
        return (
            "pip install '.[runner]' && "
            f"NAUTILUS_RUNNER_TOKEN={self.token} {shlex.join(words)} && nautilus-runner run"
        )


def slug(name: str) -> str:
    """A name as Docker allows it for containers and volumes."""
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-.").lower() or "machine"


def is_only_here(url: str) -> bool:
    """Whether an address leads other machines to themselves."""
    return (urlsplit(url).hostname or "") in _HERE_ONLY
