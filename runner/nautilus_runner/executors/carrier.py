"""A container that never runs, with a job's volume: files go through it while the job's own container starts.

The daemon locks a container as long as it starts, and a copy into it would wait; the volume is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from docker.errors import APIError, NotFound


def make_carrier(
    api: Any, name: str, image: str, volume: Mapping[str, Any], labels: Mapping[str, str]
) -> str:
    """Its id. `volume` is the mount of the job's. Blocking; DockerException.

    What the image has in that folder is copied into a new volume by the job's own container.
    """
    options = {**volume["VolumeOptions"], "NoCopy": True}
    config = {
        "Image": image,
        "Entrypoint": ["true"],
        "Labels": dict(labels),
        "HostConfig": {
            "Mounts": [{**volume, "VolumeOptions": options}],
            "NetworkMode": "none",
        },
    }
    made: str = api.create_container_from_config(config, name=f"{name}-files")["Id"]
    return made


def remove_carrier(api: Any, carrier: str) -> None:
    """Blocking; what is gone already is no error, and what can't be removed goes with the job."""
    with contextlib.suppress(NotFound, APIError):
        api.remove_container(carrier, force=True)
