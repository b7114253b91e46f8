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
    """`state` is ready, connecting or stopping; `reason` says why it is not ready."""

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


def read_status(path: Path) -> dict[str, Any] | None:
    """What the file says, with `is_running` from the process and the file's age; None where there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        age_s = time.time() - path.stat().st_mtime
    except (OSError, ValueError):
        return None
    return {**found, "is_running": age_s < STALE_AFTER_S and Path(f"/proc/{found.get('pid')}").exists()}
