"""Whether a running container can still reach its GPUs.

systemd may take them away: when it reloads its units it writes the device rules of the containers' control groups anew,
and knows nothing of devices that NVIDIA's toolkit added (so does `docker update`). The container sees them still, but
can't open them: programs that use them go on, whatever begins later fails with "Unknown Error". Only a new container
has them again. Source: NVIDIA/nvidia-docker#1730, NVIDIA Container Toolkit "Troubleshooting".
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
_SURE_AFTER = 2
_LOST = 113
_CHECK = (
    "for d in /dev/nvidiactl /dev/nvidia[0-9]*; do "
    f'if [ -c "$d" ]; then true <"$d" || exit {_LOST}; fi; done 2>/dev/null; exit 0'
)


async def lost_before(
    ended: asyncio.Future[Any], api: Any, container: str, every_s: float = _LOOK_EVERY_S
) -> str:
    """Waits until `ended` is done, "" then, or until the container lost its GPUs: then what to say of it."""
    losing = asyncio.create_task(until_lost(api, container, every_s))
    try:
        await asyncio.wait({losing, ended}, return_when=asyncio.FIRST_COMPLETED)
        return losing.result() if losing.done() and not ended.done() else ""
    finally:
        losing.cancel()


async def until_lost(api: Any, container: str, every_s: float = _LOOK_EVERY_S) -> str:
    """Returns, in words, when the container's devices can't be opened any more; may wait for ever."""
    times = 0
    while True:
        await asyncio.sleep(every_s)
        times = times + 1 if await asyncio.to_thread(_is_lost, api, container) else 0
        if times == _SURE_AFTER:
            return "the job's container lost its GPU (were systemd's units reloaded on the host?)"


def _is_lost(api: Any, container: str) -> bool:
    """What can't be asked is not lost: the container may just have ended, or have no sh."""
    import docker
    import requests

    try:
        made = api.exec_create(container, ["sh", "-c", _CHECK])
        api.exec_start(made["Id"])
        return bool(api.exec_inspect(made["Id"])["ExitCode"] == _LOST)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        log.debug("GPUs of %s are not looked at: %s", container[:12], error)
        return False
