"""GPUs that other runners of the same Docker daemon have given to containers, which say so by a label.

For runners that share no folder of locks: the appliance's own and one beside it, each in its container. A container is
labelled when it is created, and who made it looks at the others' labels before it is started: the later one
gives way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nautilus_runner.errors import JobError, SystemFailure
from nautilus_runner.executors import containers
from nautilus_runner.gpus.pool import Elsewhere
from nautilus_runner.settings import Settings

LABEL_GPUS = "org.nautilus.runner.gpus"
_FRESH_S = 600
"""A container that was made so long ago and never started is what a killed runner left."""

Daemon = Callable[[str], tuple[Any, tuple[str, ...]]]


def labels(uuids: Sequence[str]) -> dict[str, str]:
    return {LABEL_GPUS: ",".join(uuids)} if uuids else {}


def looker(settings: Settings, daemon: Daemon, system_id: str) -> Elsewhere | None:
    """What tells which GPUs other runners' containers have; None where no daemon is used."""
    hosts = tuple(dict.fromkeys(r.docker.host for r in settings.runners if r.executor == "docker"))

    def look() -> frozenset[str]:
        taken: set[str] = set()
        for host in hosts:
            try:
                taken |= taken_by_others(daemon(host)[0], system_id)
            except JobError:  # without the daemon nobody gives out anything there
                continue
        return frozenset(taken)

    async def elsewhere() -> frozenset[str]:
        return await asyncio.to_thread(look)

    return elsewhere if hosts else None


def taken_by_others(api: Any, system_id: str) -> set[str]:
    """UUIDs in containers of other runners that run or are about to. Blocking; raises SystemFailure."""
    return {
        uuid
        for container in _labelled(api)
        if container["Labels"].get(containers.LABEL_RUNNER) != system_id
        for uuid in container["Labels"][LABEL_GPUS].split(",")
    }


def give_way(api: Any, system_id: str, container_id: str, uuids: Iterable[str]) -> None:
    """Look once more, after our own container was made. Blocking; raises SystemFailure where another's was first."""
    wanted, found = set(uuids), _labelled(api)
    ours = next((int(one["Created"]) for one in found if one["Id"] == container_id), 0)
    for other in found:
        is_others = other["Labels"].get(containers.LABEL_RUNNER) != system_id
        shared = wanted & set(other["Labels"][LABEL_GPUS].split(","))
        # in whole seconds: of two in one second both give way, rather than none
        if is_others and shared and (other["State"] != "created" or int(other["Created"]) <= ours):
            raise SystemFailure(
                f"another runner of this machine gave out {', '.join(sorted(shared))} at the same moment"
            )


def _labelled(api: Any) -> list[dict[str, Any]]:
    import docker
    import requests

    try:
        found = api.containers(all=True, filters={"label": LABEL_GPUS})
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise SystemFailure(f"Docker does not tell which GPUs are in use: {error}") from error
    oldest = time.time() - _FRESH_S
    return [
        one
        for one in found
        if one["State"] in ("running", "paused", "restarting")
        or (one["State"] == "created" and one["Created"] > oldest)
    ]
