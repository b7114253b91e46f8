"""The parts of `config.toml` that say what keeps jobs apart: networks, host folders, the sandbox, built images."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Sandbox = Literal["auto", "off", "require"]

# What gives a job the machine or the runner, or would break its container; neither they, nor what holds them.
_FORBIDDEN_SOURCES = tuple(
    PurePosixPath(path)
    for path in (
        *("/proc", "/sys", "/dev", "/boot", "/etc", "/run", "/var/run", "/root"),
        *(
            "/var/lib/docker",
            "/var/lib/containerd",
            "/var/opt/nautilus",
            "/var/opt/mlreef",
            "/var/lib/nautilus-runner",
        ),
    )
)
_FORBIDDEN_TARGETS = tuple(
    PurePosixPath(path)
    for path in ("/builds", "/proc", "/sys", "/dev", "/etc", "/bin", "/lib", "/usr", "/sbin")
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder of the host in every job's container."""

    source: str
    target: str
    is_read_only: bool = True


def parse_volume(text: str) -> Volume:
    """`/HOST/FOLDER:/CONTAINER/FOLDER[:ro|rw]`. Raises ValueError, saying why a folder is not given to jobs."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ValueError(f"{text!r} is not /HOST/FOLDER:/CONTAINER/FOLDER or the same with :ro or :rw")
    source, target = PurePosixPath(parts[0]), PurePosixPath(parts[1])
    for path in (source, target):
        if not path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{text!r}: {path} is not an absolute path without '..'; named volumes are not mounted"
            )
    for closed in _FORBIDDEN_SOURCES:
        if closed.is_relative_to(source) or source.is_relative_to(closed):
            raise ValueError(f"{text!r}: {source} holds or is part of {closed}, which no job gets")
    if target == PurePosixPath("/"):
        raise ValueError(f"{text!r}: nothing is mounted at /")
    for closed in _FORBIDDEN_TARGETS:
        if target.is_relative_to(closed) or closed.is_relative_to(target):
            raise ValueError(f"{text!r}: {target} would hide {closed} of the job's")
    return Volume(str(source), str(target), parts[2:] != ["rw"])


def refuse_own_folders(volumes: tuple[str, ...], own: PurePosixPath) -> None:
    """Raises ValueError where a volume would show a job the runner's own folder."""
    for text in volumes:
        source = PurePosixPath(parse_volume(text).source)
        if own.is_relative_to(source) or source.is_relative_to(own):
            raise ValueError(
                f"runners.docker.volumes: {text!r}: {source} holds or is part of the runner's {own}"
            )


def _volumes(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        parse_volume(text)
    return texts


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.IPv4Network(text)) for text in texts)


def _subnets(text: str) -> str:
    if text and ipaddress.IPv4Network(text).prefixlen > 24:
        raise ValueError(f"{text}: too small, give at least a /24 (a job's network takes 32 addresses)")
    return text


def _reachable(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not re.fullmatch(r"[A-Za-z0-9._-]+:\d{1,5}", text) or not 0 < int(text.rpartition(":")[2]) < 65536:
            raise ValueError(f"{text!r} is not HOST:PORT")
    return texts


def _folders(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not PurePosixPath(text).is_absolute() or PurePosixPath(text) == PurePosixPath("/"):
            raise ValueError(f"{text!r} is not the absolute path of a folder")
    return texts


Volumes = Annotated[tuple[str, ...], AfterValidator(_volumes)]
Networks = Annotated[tuple[str, ...], AfterValidator(_networks)]
Subnets = Annotated[str, AfterValidator(_subnets)]
Reachable = Annotated[tuple[str, ...], AfterValidator(_reachable)]
Folders = Annotated[tuple[str, ...], AfterValidator(_folders)]


class BuildSettings(BaseModel):
    """`[runners.build]`: images that jobs have built from a Dockerfile of theirs (NAUTILUS_BUILD_DOCKERFILE)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    enabled: bool = True
    memory_mib: int = Field(default=0, ge=0)  # of one step; 0: as a job's own limit
    cpus: float = Field(default=0.0, ge=0)  # of one step; 0: as a job's own limit
    timeout_s: float = Field(default=3600.0, gt=0)
    context_limit_mib: int = Field(default=2048, ge=1)  # what is sent to the daemon
    image_limit_mib: int = Field(default=20480, ge=1)  # of one built image
    cache_limit_mib: int = Field(default=51200, ge=0)  # of all that are kept
