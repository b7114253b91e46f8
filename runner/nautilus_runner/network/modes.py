"""How much of the network a job gets: what its registration allows, or less where the job asks for less."""

from __future__ import annotations

from enum import StrEnum

from nautilus_runner.errors import JobMisconfigured

VARIABLE = "NAUTILUS_NETWORK"


class NetworkMode(StrEnum):
    NONE = "none"
    """No network but the job's own loopback (and its services)."""
    INTERNAL = "internal"
    """The server's addresses and those of the registration's `reachable`, nothing else."""
    FULL = "full"
    """What the machine reaches, but for other jobs and `blocked_networks`."""


_ORDER = (NetworkMode.NONE, NetworkMode.INTERNAL, NetworkMode.FULL)


def asked_for(wanted: str, most: NetworkMode) -> NetworkMode:
    """The job's mode, from its variable ("": what the registration gives). Raises JobMisconfigured."""
    wanted = wanted.strip().lower()
    if not wanted:
        return most
    if wanted not in _ORDER:
        raise JobMisconfigured(f"{VARIABLE}={wanted!r} is not one of none, internal, full")
    mode = NetworkMode(wanted)
    if _ORDER.index(mode) > _ORDER.index(most):
        raise JobMisconfigured(
            f"{VARIABLE}={mode} asks for more than this runner gives to jobs, which is {most}: "
            "leave it out, or let the runner's administrator change its network_mode"
        )
    return mode
