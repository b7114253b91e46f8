"""A container that never runs, with a job's volume: files go through it while the job's own container starts.

The daemon locks a container as long as it starts, and a copy into it would wait; the volume is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from docker.errors import APIError, NotFound

from nautilus_runner.executors.containers import BUILDS


def make_carrier(
    api: Any, name: str, image: str, mounts: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> str:
    """Its id. `mounts` are the job's own, of which it gets the volume alone. Blocking; DockerException."""
    config = {
        "Image": image,
        "Entrypoint": ["true"],
        "Labels": dict(labels),
        "HostConfig": {
            "Mounts": [dict(mount) for mount in mounts if mount["Target"] == BUILDS],
            "NetworkMode": "none",
        },
    }
    made: str = api.create_container_from_config(config, name=f"{name}-files")["Id"]
    return made


def remove_carrier(api: Any, carrier: str) -> None:
    """Blocking; what is gone already is no error, and what can't be removed goes with the job."""
    with contextlib.suppress(NotFound, APIError):
        api.remove_container(carrier, force=True)
