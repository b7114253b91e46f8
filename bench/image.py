"""The images' size, and what a user of `docker run` waits for: ready, cold and warm; idle memory; `docker stop`."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from bench.figures import figure
from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container

_MB = 1_000_000
_MOST_MB = {"lite": 900.0, "runner": 250.0}
_COLD_LIMIT_S, _WARM_LIMIT_S, _STOP_LIMIT_S = 8.0, 4.0, 10.0
_BUDGET_MIB = 300.0
_SETTLE_S = 8.0
_ADDRESS = "127.86.75.64"
"""A loopback address of this part's own, so that the ports are the usual ones."""


def figures(runs: int, home: Path) -> list[dict[str, Any]]:
    """Sizes in MB (unpacked), times in seconds by the wall clock outside, memory in MiB PSS as the host sees it."""
    images = {target: _built(target) for target in _MOST_MB}
    bare, cold, warm, stop, idle = [], [], [], [], []
    for _ in range(runs):
        bare.append(_bare_start(images["lite"]))
        name = f"nautilus-bench-{uuid.uuid4().hex[:8]}"
        container = _container(name, images["lite"])
        try:
            cold.append(container.start())
            stop.append(container.stop())
            warm.append(container.start())
            time.sleep(_SETTLE_S)
            idle.append(_pss_mib(name))
        finally:
            docker("rm", "-f", "-v", name, check=False)
            docker("volume", "rm", "-f", f"{name}-data", check=False)
    yardstick = {"yardstick": "docker run … true", "yardstick_values": bare}
    return [
        *(_size(target, image) for target, image in images.items()),
        _limited("docker run to ready, cold (empty volume)", "s", cold, _COLD_LIMIT_S, **yardstick),
        _limited("docker run to ready, warm", "s", warm, _WARM_LIMIT_S, **yardstick),
        _limited("docker stop", "s", stop, _STOP_LIMIT_S),
        _limited("idle memory of the container", "MiB PSS", idle, _BUDGET_MIB),
    ]


def _built(target: str) -> str:
    """Builds the target from this checkout (seconds where nothing changed); the image's name."""
    name = f"nautilus-bench:{target}"
    argv = [str(PROJECT_ROOT / "image/build"), target, "--quiet", "--tag", name]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return name


def _container(name: str, image: str) -> Container:
    options = [
        *("run", "--detach", "--name", name, "--volume", f"{name}-data:/var/opt/nautilus"),
        *("--volume", "/var/run/docker.sock:/var/run/docker.sock", "--publish", f"{_ADDRESS}:80:80"),
    ]
    return Container(name, _ADDRESS, [*options, image])


def _bare_start(image: str) -> float:
    began = time.monotonic()
    docker("run", "--rm", image, "true")
    return time.monotonic() - began


def _pss_mib(name: str) -> float:
    """Of all processes of the container; read as root of the host, since inside only one's own may be read."""
    rows = docker("top", name, "-eo", "pid").split()[1:]
    total = 0
    for pid in rows:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        total += int(text.partition("\nPss:")[2].split()[0])
    return total / 1024


def _size(target: str, image: str) -> dict[str, Any]:
    size = json.loads(docker("image", "inspect", image))[0]["Size"] / _MB
    return _limited(f"size of the image {target}", "MB", [size], _MOST_MB[target])


def _limited(name: str, unit: str, values: list[float], limit: float, **yardstick: Any) -> dict[str, Any]:
    ok = statistics.median(values) <= limit
    return figure(name, unit, values, target=f"≤ {limit:g} {unit}", ok=ok, **yardstick)
