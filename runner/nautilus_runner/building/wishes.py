"""What a job says of the image that it wants built: its variables NAUTILUS_BUILD_…"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nautilus_runner.errors import ImageBuildFailed
from nautilus_runner.executors.containers import registry_of
from nautilus_runner.payload import Job
from nautilus_runner.variables import Variables

DOCKERFILE = "NAUTILUS_BUILD_DOCKERFILE"
CONTEXT = "NAUTILUS_BUILD_CONTEXT"
ARGUMENTS = "NAUTILUS_BUILD_ARGS"
TARGET = "NAUTILUS_BUILD_TARGET"
PUSH = "NAUTILUS_BUILD_PUSH"
_MANY = 50
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*")


@dataclass(frozen=True, slots=True)
class BuildWish:
    """`dockerfile` and `context`: paths below the project. `push`: where the image goes, "" nowhere."""

    dockerfile: str
    context: str = "."
    arguments: tuple[tuple[str, str], ...] = ()
    target: str = ""
    push: str = ""


def wish_of(job: Job, variables: Variables) -> BuildWish | None:
    """None where the job wants none built. Raises ImageBuildFailed for what can't be."""
    dockerfile = variables.get(DOCKERFILE)
    if not dockerfile:
        return None
    wish = BuildWish(
        _inside(DOCKERFILE, dockerfile),
        _inside(CONTEXT, variables.get(CONTEXT) or "."),
        tuple(_arguments(variables)),
        variables.get(TARGET),
        variables.get(PUSH),
    )
    if wish.push:
        check_push(job, wish.push)
    return wish


def check_push(job: Job, image: str) -> None:
    """Only into the job's own project's part of a registry that the server gave it a login for.

    Another name would also change what that name means on this machine, for other jobs. Raises ImageBuildFailed.
    """
    registry, _, path = image.partition("/")
    own = job.job_info.project_full_path.lower()
    name = path.rpartition(":")[0] if ":" in path else path
    hosts = [
        c.url.removeprefix("https://").removeprefix("http://").rstrip("/")
        for c in job.credentials
        if c.type == "registry"
    ]
    if not _IMAGE.fullmatch(image) or registry_of(image) != registry or registry not in hosts:
        known = ", ".join(hosts) or "none: the server has no registry"
        raise ImageBuildFailed(f"{PUSH}={image}: not at a registry that this job may push to ({known})")
    if not own or (name != own and not name.startswith(f"{own}/")):
        raise ImageBuildFailed(f"{PUSH}={image}: a job pushes below its own project, {registry}/{own}")


def found_below(root: Path, path: str, variable: str) -> Path:
    """The path, which no link leads to. Raises ImageBuildFailed."""
    at = root
    for part in PurePosixPath(path).parts:
        at /= part
        if at.is_symlink():
            raise ImageBuildFailed(f"{variable}={path}: {part} is a link, which is not followed")
    if not at.exists():
        raise ImageBuildFailed(f"{variable}={path}: the repository has no such path")
    return at


def _inside(variable: str, path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ImageBuildFailed(f"{variable}={path}: it must be a path of the repository, without '..'")
    return str(pure)


def _arguments(variables: Variables) -> Iterable[tuple[str, str]]:
    """`NAME=value`, or `NAME` for the variable of that name, separated by spaces or lines, quoted as for a shell."""
    try:
        words = shlex.split(variables.get(ARGUMENTS))
    except ValueError as error:
        raise ImageBuildFailed(f"{ARGUMENTS}: {error}") from error
    if len(words) > _MANY:
        raise ImageBuildFailed(f"{ARGUMENTS}: more than {_MANY}")
    secrets = [value for value in variables.masked_values() if len(value) > 3]
    for word in words:
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ImageBuildFailed(f"{ARGUMENTS}: {name!r} is no name")
        value = value if equals else variables.get(name)
        if any(secret in value for secret in secrets):
            raise ImageBuildFailed(
                f"{ARGUMENTS}: {name} holds a masked variable: it would be kept in the image for everybody to read. "
                "Use it in the job's script instead"
            )
        yield name, value
