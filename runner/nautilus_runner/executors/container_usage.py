"""The limits of a job's containers, as the daemon keeps them, and what it tells of their use."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, NotFound

from nautilus_runner.cgroups import Facts
from nautilus_runner.executors.containers import BUILDS
from nautilus_runner.limits import Limits
from nautilus_runner.settings import DockerSettings
from nautilus_runner.usage.host import folder_bytes
from nautilus_runner.usage.reading import Reading

_MIB = 1 << 20
_COUNT = f"du -skx {BUILDS} 2>/dev/null"


def limit_config(settings: DockerSettings, limits: Limits) -> dict[str, Any]:
    """Part of a container's HostConfig: the job's limits, else the settings'. Swap gives no memory besides."""
    config: dict[str, Any] = {
        "PidsLimit": limits.pids or settings.pids_limit,
        "ShmSize": (limits.shm_mib or settings.shm_mib) << 20,
    }
    if limits.memory_mib:
        config |= {"Memory": limits.memory_mib * _MIB, "MemorySwap": limits.memory_mib * _MIB}
    if limits.cpus:
        config["NanoCpus"] = int(limits.cpus * 1e9)
    return config


def facts_of(state: dict[str, Any], limits: Limits) -> Facts:
    """From a container's state: its memory limit was the reason only where the daemon says so."""
    if not state.get("OOMKilled"):
        return Facts()
    return Facts(oom_kills=1, memory_peak_bytes=limits.memory_mib * _MIB)


def read_stats(api: Any, container: str) -> Reading | None:
    """One sample, without the second that the daemon would wait for another. Blocking.

    Source: Docker Engine API 1.41, `GET /containers/{id}/stats?stream=false&one-shot=true`.
    """
    try:
        stats = api.stats(container, stream=False, one_shot=True)
    except (DockerException, OSError, ValueError):
        return None
    return reading_of(stats)


def reading_of(stats: dict[str, Any]) -> Reading | None:
    """None for a container that does not run. Memory as `docker stats` shows it: without inactive pages of files."""
    memory = stats.get("memory_stats") or {}
    used = memory.get("usage")
    if used is None:
        return None
    detail = memory.get("stats") or {}
    inactive = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    networks = (stats.get("networks") or {}).values()
    cpu = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    return Reading(
        cpu_s=None if cpu is None else cpu / 1e9,
        memory_bytes=max(0, used - inactive),
        pids=(stats.get("pids_stats") or {}).get("current"),
        received_bytes=sum(one.get("rx_bytes", 0) for one in networks) if networks else None,
        sent_bytes=sum(one.get("tx_bytes", 0) for one in networks) if networks else None,
    )


def disk_bytes(api: Any, container: str, volume: str) -> int | None:
    """The container's own layer and the job's volume. Blocking, and slow where there are many files.

    A volume whose folder this machine can't see is counted by the container's own `du`, as the job's user.
    """
    try:
        url = api._url("/containers/{0}/json", container)
        layer = int(api._result(api._get(url, params={"size": 1}), json=True).get("SizeRw") or 0)
        folder = Path(api.inspect_volume(volume)["Mountpoint"])
        with contextlib.suppress(OSError):
            if folder.is_dir():
                return layer + folder_bytes(folder)
        return layer + _counted_inside(api, container)
    except (NotFound, APIError, DockerException, OSError, ValueError, KeyError):
        return None


def _counted_inside(api: Any, container: str) -> int:
    """0 where the image has no `du`."""
    made = api.exec_create(container, ["sh", "-c", _COUNT], stderr=False)
    words = bytes(api.exec_start(made["Id"])).split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else 0
