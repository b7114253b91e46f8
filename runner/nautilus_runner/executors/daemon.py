"""Calls of a Docker daemon: in a thread, with errors of ours; and the removal of all that carries a label."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from docker.errors import APIError, DockerException, NotFound

from nautilus_runner.errors import SystemFailure
from nautilus_runner.executors.images import explain

T = TypeVar("T")


async def ask(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Not found stays Docker's own error; the rest is a SystemFailure."""
    try:
        return await asyncio.to_thread(call, *args, **kwargs)
    except NotFound:
        raise
    except (DockerException, OSError) as error:
        raise SystemFailure(f"Docker: {explain(error)}") from error


def remove_labelled(api: Any, label: str) -> None:
    """Remove containers, then networks and volumes that carry the label. Blocking; what is gone is no error."""
    filters = {"label": label}
    for container in api.containers(all=True, filters=filters):
        with contextlib.suppress(NotFound, APIError):
            api.remove_container(container["Id"], force=True, v=True)
    for network in api.networks(filters=filters):
        with contextlib.suppress(NotFound, APIError):
            api.remove_network(network["Id"])
    for volume in api.volumes(filters=filters).get("Volumes") or []:
        with contextlib.suppress(NotFound, APIError):
            api.remove_volume(volume["Name"], force=True)
