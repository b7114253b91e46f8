"""How long ago something was, also across restarts of the runner, and whatever is done to the wall clock meanwhile."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def mark() -> dict[str, Any]:
    """Now, for the journal."""
    return {"boot_id": _boot_id(), "boot_s": time.clock_gettime(time.CLOCK_BOOTTIME), "wall_s": time.time()}


def seconds_since(then: dict[str, Any] | None, wall_s: float) -> float:
    """Since a `mark`, by the clock that only runs forward; after a reboot by the wall clock, never less than 0.

    `wall_s` stands for a mark that an older runner did not leave.
    """
    if then is not None and then["boot_id"] == _boot_id():
        return time.clock_gettime(time.CLOCK_BOOTTIME) - float(then["boot_s"])
    return max(0.0, time.time() - (float(then["wall_s"]) if then is not None else wall_s))


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()
