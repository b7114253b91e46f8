"""What the bundled runner says of itself, in its status file (docs/reference/internals.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BundledRunner:
    """`runner_ids` are its ids at GitLab, where it says them; `slots` is `{"total", "busy"}`."""

    executors: list[str]
    slots: dict[str, int]
    gpus: list[dict[str, Any]]


def read_bundled_runner(path: Path) -> BundledRunner | None:
    """None while it has written nothing (whole) yet."""
    try:
        status = json.loads(path.read_text())
        return BundledRunner(
            [str(name) for name in status.get("executors") or []],
            {key: int(status["slots"][key]) for key in ("total", "busy")},
            [dict(gpu) for gpu in status.get("gpus") or []],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
