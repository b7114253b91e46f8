"""What a run's job uses, now and at most, and why it ended: from what its runner logs to the run.

The runner logs MLflow's own system metrics (`system/…`), and at the end the cause and the highest values as tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import BaseModel

SYSTEM = "system/"
"""What the names of MLflow's system metrics begin with. Source: mlflow/system_metrics/metrics_logger.py."""
CAUSE, REASON, PEAK = "nautilus.end.cause", "nautilus.end.reason", "nautilus.peak."
TAGS = "nautilus."
_MIB_TO_MB = (1 << 20) / 1e6
_FIXED = {
    "cpu_utilization_percentage": ("CPU", "%"),
    "system_memory_usage_megabytes": ("Memory", "MB"),
    "disk_usage_megabytes": ("Disk", "MB"),
    "network_receive_megabytes": ("Received", "MB"),
    "network_transmit_megabytes": ("Sent", "MB"),
}
_GPU = re.compile(r"gpu_(\d{1,3})_(utilization_percentage|memory_usage_megabytes)")
_TAGGED = {"system_memory_usage_megabytes": "memory_mib", "disk_usage_megabytes": "disk_mib"}
"""Which tag tells the kernel's own peak, that no sample may have met."""


class Used(BaseModel):
    """`key` is the metric's name without `system/`; `name` is for people; `unit` % or MB (10⁶ bytes)."""

    key: str
    name: str
    unit: str
    now: float
    peak: float


class Usage(BaseModel):
    """`cause` is the runner's word for why the job ended (null while it runs, or where the runner is none of ours),
    `reason` its sentence."""

    cause: str | None
    reason: str | None
    values: list[Used]


def usage_of(now: Mapping[str, float], peaks: Mapping[str, float], tags: Mapping[str, str]) -> Usage:
    """From the last and the highest values of a run's metrics, and its tags."""
    values = []
    for metric, value in now.items():
        key = metric.removeprefix(SYSTEM)
        words = _words(key)
        if metric.startswith(SYSTEM) and words is not None:
            peak = max(value, peaks.get(metric, value), _tagged(key, tags))
            values.append(Used(key=key, name=words[0], unit=words[1], now=value, peak=peak))
    return Usage(
        cause=tags.get(CAUSE) or None,
        reason=" ".join(tags.get(REASON, "").split())[:300] or None,
        values=sorted(values, key=_place),
    )


def _words(key: str) -> tuple[str, str] | None:
    if key in _FIXED:
        return _FIXED[key]
    if match := _GPU.fullmatch(key):
        is_memory = match[2].startswith("memory")
        return f"GPU {int(match[1])}{' memory' if is_memory else ''}", "MB" if is_memory else "%"
    return None


def _tagged(key: str, tags: Mapping[str, str]) -> float:
    name = _TAGGED.get(key)
    if match := _GPU.fullmatch(key):
        name = f"gpu_{match[1]}_memory_mib" if match[2].startswith("memory") else f"gpu_{match[1]}_percent"
    text = tags.get(f"{PEAK}{name}", "")
    if name is None or not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text):
        return 0.0
    return float(text) * (_MIB_TO_MB if name.endswith("_mib") else 1.0)


def _place(used: Used) -> tuple[int, str]:
    fixed = list(_FIXED)
    return (fixed.index(used.key) if used.key in _FIXED else len(fixed), used.name)
