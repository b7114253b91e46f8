"""What the GPUs do and how they are, where we cannot see the driver: `nvidia-smi` runs in a container of our own image.

Only while jobs have GPUs. The container ends by itself some time after nobody is there to start it anew, so that a
runner that was killed, or removed for good, leaves nothing behind that runs. Source: `nvidia-smi --help-query-gpu`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nautilus_runner.executors import containers, gpu_probe
from nautilus_runner.gpu import Gpu, GpuUse

log = logging.getLogger(__name__)

_EVERY_S = 5
_LIFE_S = 900
_START_AGAIN_S = 30.0
_FIELDS = "uuid,utilization.gpu,memory.used,memory.total,ecc.errors.uncorrected.volatile.total"
_LOST = ("GPU is lost", "GPU requires reset")
_LOG = {"Type": "local", "Config": {"max-size": "1m", "max-file": "1", "compress": "false"}}


@dataclass(frozen=True, slots=True)
class Reading:
    """One GPU at one moment. `lost_bits` None: it counts none. `problem` is nvidia-smi's word, "" where it is well."""

    use: GpuUse
    lost_bits: int | None = None
    problem: str = ""


class GpuMonitor:
    """All of its methods block. Trouble with the daemon means that nothing is known, with a word in the log."""

    def __init__(self, api: Any, own_container: str, system_id: str, gpus: Sequence[Gpu]) -> None:
        self._api = api
        self._own_container = own_container
        self._system_id = system_id
        self._gpus = tuple(gpus)
        self._wholes = tuple(dict.fromkeys(gpu.parent or gpu.uuid for gpu in gpus))
        self._container = ""
        self._started_at = float("-inf")
        self._lost_bits: dict[str, int] = {}
        self._latest: dict[str, GpuUse] = {}

    def use(self, uuids: Iterable[str]) -> dict[str, GpuUse]:
        """As of the last look."""
        latest = self._latest
        return {uuid: latest[uuid] for uuid in uuids if uuid in latest}

    def problems(self) -> dict[str, str]:
        """Look, and begin anew where the container ended. What is wrong, by the UUID of the device that jobs get."""
        found = self._look()
        self._latest = {uuid: reading.use for uuid, reading in found.items() if not reading.problem}
        of_wholes = {uuid: self._problem(uuid, reading) for uuid, reading in found.items()}
        told = {gpu.uuid: of_wholes.get(gpu.parent or gpu.uuid, "") for gpu in self._gpus}
        return {uuid: problem for uuid, problem in told.items() if problem}

    def close(self) -> None:
        made, self._container, self._latest = self._container, "", {}
        self._started_at = float("-inf")
        if made:
            with contextlib.suppress(*_troubles()):
                self._api.remove_container(made, force=True, v=True)

    def _problem(self, uuid: str, reading: Reading) -> str:
        if reading.problem or reading.lost_bits is None:
            return reading.problem and f"nvidia-smi says: {reading.problem}"
        before = self._lost_bits.setdefault(uuid, reading.lost_bits)
        self._lost_bits[uuid] = max(before, reading.lost_bits)
        more = reading.lost_bits - before
        return (
            f"uncorrected ECC errors: {more} more, {reading.lost_bits} since the last reset"
            if more > 0
            else ""
        )

    def _look(self) -> dict[str, Reading]:
        try:
            if not self._container or not self._is_running():
                self._begin()
            lines = self._api.logs(self._container, stdout=True, stderr=True, tail=2 * len(self._wholes))
        except _troubles() as error:
            log.warning("GPUs are not watched now: %s", error)
            self._container = ""
            return {}
        return parse_readings(lines.decode(errors="replace"))

    def _is_running(self) -> bool:
        return bool(self._api.inspect_container(self._container)["State"]["Running"])

    def _begin(self) -> None:
        """At most every half minute: one that can't run would be made over and over."""
        if time.monotonic() - self._started_at < _START_AGAIN_S:
            return
        self._started_at = time.monotonic()
        labels = monitor_labels(self._system_id)
        for left in self._api.containers(
            all=True, filters={"label": [f"{k}={v}" for k, v in labels.items()]}
        ):
            self._api.remove_container(left["Id"], force=True, v=True)
        image = self._api.inspect_container(self._own_container)["Image"]
        config = monitor_config(image, self._system_id)
        self._container = self._api.create_container_from_config(config)["Id"]
        self._api.start(self._container)


def monitor_config(image: str, system_id: str) -> dict[str, Any]:
    """The body of POST /containers/create. Pure."""
    config = gpu_probe.probe_config(image, system_id)
    query = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits", f"--loop={_EVERY_S}"]
    return {
        **config,
        "Entrypoint": ["timeout", "-k", "5", str(_LIFE_S)],
        "Cmd": query,
        "Labels": monitor_labels(system_id),
        "HostConfig": {**config["HostConfig"], "LogConfig": _LOG},
    }


def monitor_labels(system_id: str) -> dict[str, str]:
    return {containers.LABEL_RUNNER: system_id, containers.LABEL_ROLE: "gpu-monitor"}


def parse_readings(output: str) -> dict[str, Reading]:
    """The last line of each GPU; what is no such line is left out."""
    found: dict[str, Reading] = {}
    for line in output.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 5 or not parts[0].startswith("GPU-"):
            continue
        busy, used, total, lost_bits = (int(part) if part.isdigit() else None for part in parts[1:])
        problem = next((word for word in _LOST if word in line), "")
        if problem or (used is not None and total is not None):
            found[parts[0]] = Reading(GpuUse(busy, used or 0, total or 0), lost_bits, problem)
    return found


def _troubles() -> tuple[type[Exception], ...]:
    import docker
    import requests

    return (docker.errors.DockerException, requests.RequestException, OSError)
