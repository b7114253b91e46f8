"""`status.json`: what the runner is doing, for people and for the appliance's health. Shape: internals.md."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nautilus_runner import __version__

STALE_AFTER_S = 15.0


@dataclass(slots=True)
class Status:
    """`state`: ready, connecting, full (the disk), draining or stopping; `reason` says why it is not ready."""

    state: str = "connecting"
    reason: str = "starting"
    executors: Sequence[str] = ()
    total: int = 0
    busy: int = 0
    gpus: Sequence[Mapping[str, Any]] = ()
    capacity: Mapping[str, Any] = field(default_factory=dict)
    jobs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    warnings: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "version": __version__,
            "updated_at": timestamp(time.time()),
            "state": self.state,
            "reason": self.reason,
            "executors": list(self.executors),
            "slots": {"total": self.total, "busy": self.busy},
            "gpus": list(self.gpus),
            "capacity": dict(self.capacity),
            "jobs": list(self.jobs),
            "warnings": list(self.warnings),
        }


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_status(path: Path, status: Status) -> None:
    """Replace the file in one step. A folder that is missing or full is no reason to end: the old file stays."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        part.write_text(json.dumps(status.as_json()) + "\n")
        part.chmod(0o644)
        part.rename(path)


def room_of(capacity: Mapping[str, Any]) -> str:
    """What of the machine is given to jobs, in one line; "" where nothing is counted."""
    units = {"cpus": "cpus", "memory_mib": "MiB of memory", "disk_mib": "MiB of disk"}
    parts = [
        f"{capacity[name]['used']:g} of {capacity[name]['total']:g} {unit}"
        for name, unit in units.items()
        if capacity.get(name, {}).get("used")
    ]
    parts += [
        f"{kind['running']} of {kind['limit'] or 'any number of'} {name} jobs"
        for name, kind in capacity.get("kinds", {}).items()
        if kind["running"]
    ]
    return f"given to jobs: {', '.join(parts)}" if parts else ""


def details_of(job: Mapping[str, Any]) -> str:
    """What a job waits for, or uses, for the end of its line."""
    if waits_for := job.get("waits_for"):
        return f"; {waits_for}"
    usage = job.get("usage") or {}
    words = {"cpu_percent": "% of a cpu", "memory_mib": "MiB of memory", "disk_mib": "MiB of disk"}
    parts = [f"{usage[name]['now']:.0f} {unit}" for name, unit in words.items() if name in usage]
    parts += [
        f"GPU {n} {usage[f'gpu_{n}_percent']['now']:.0f} %" for n in range(64) if f"gpu_{n}_percent" in usage
    ]
    return f"; uses {', '.join(parts)}" if parts else ""


def read_status(path: Path) -> dict[str, Any] | None:
    """What the file says, with `is_running` from the process and the file's age; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        age_s = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return None
    return {**found, "is_running": age_s < STALE_AFTER_S and Path(f"/proc/{found.get('pid')}").exists()}
