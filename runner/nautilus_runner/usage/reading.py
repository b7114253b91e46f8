"""One look at what a job uses, and what many of them make: the newest and the highest values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nautilus_runner.gpu import GpuUse
from nautilus_runner.limits import Limits

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """`cpu_s` counts from the script's beginning, network bytes from the container's. None: not told."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Peak:
    now: float = 0.0
    highest: float = 0.0

    def take(self, value: float) -> None:
        self.now = value
        self.highest = max(self.highest, value)

    def as_json(self) -> dict[str, float]:
        return {"now": round(self.now, 1), "peak": round(self.highest, 1)}


@dataclass(slots=True)
class Usage:
    """All looks at one job together. Values by name, only those that were told: `cpu_percent` (of one cpu),
    `memory_mib`, `disk_mib`, `pids`, `network_received_mib`, `network_sent_mib`, and of each GPU in the job's order
    `gpu_N_percent`, `gpu_N_memory_mib`."""

    values: dict[str, Peak] = field(default_factory=dict)
    cpu_s: float = 0.0
    """Of all scripts so far."""
    gpu_memory_mib: dict[int, int] = field(default_factory=dict)
    samples: int = 0
    _last: Reading | None = None
    _before_s: float = 0.0

    def take(self, reading: Reading) -> None:
        self.samples += 1
        last = self._last
        if reading.cpu_s is not None:
            if last is not None and last.cpu_s is not None and reading.cpu_s < last.cpu_s:
                self._before_s += last.cpu_s  # the next script counts from its own beginning
                last = None
            if last is not None and last.cpu_s is not None and reading.at > last.at:
                self._put("cpu_percent", 100 * (reading.cpu_s - last.cpu_s) / (reading.at - last.at))
            self.cpu_s = self._before_s + reading.cpu_s
        if reading.memory_bytes is not None:
            self._put("memory_mib", reading.memory_bytes / _MIB)
        if reading.pids is not None:
            self._put("pids", reading.pids)
        if reading.received_bytes is not None:
            self._put("network_received_mib", reading.received_bytes / _MIB)
        if reading.sent_bytes is not None:
            self._put("network_sent_mib", reading.sent_bytes / _MIB)
        self._last = reading

    def take_disk(self, used_bytes: int) -> None:
        self._put("disk_mib", used_bytes / _MIB)

    def take_gpus(self, uuids: tuple[str, ...], use: Mapping[str, GpuUse]) -> None:
        for number, uuid in enumerate(uuids):
            if (one := use.get(uuid)) is not None:
                if one.utilization_percent is not None:
                    self._put(f"gpu_{number}_percent", one.utilization_percent)
                self._put(f"gpu_{number}_memory_mib", one.memory_used_mib)
                self.gpu_memory_mib[number] = one.memory_total_mib

    def take_end(self, *, cpu_s: float, memory_peak_bytes: int = 0) -> None:
        """The kernel's own sums of a script that is over; 0: not told."""
        self.cpu_s = max(self.cpu_s, self._before_s + cpu_s)
        if memory_peak_bytes:
            peak = self.values.setdefault("memory_mib", Peak())
            peak.highest = max(peak.highest, memory_peak_bytes / _MIB)

    def highest(self, name: str) -> float:
        return self.values[name].highest if name in self.values else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "cpu_s": round(self.cpu_s, 1),
            **{name: value.as_json() for name, value in self.values.items()},
        }

    def _put(self, name: str, value: float) -> None:
        self.values.setdefault(name, Peak()).take(value)


def summary(usage: Usage, limits: Limits) -> str:
    """One line for the end of the log; "" where nothing was told."""
    if not usage.values and usage.cpu_s < 0.1:
        return ""
    peak = usage.highest
    parts = [f"CPU {usage.cpu_s:.1f} s"]
    if "cpu_percent" in usage.values:
        parts[0] += f" (peak {peak('cpu_percent') / 100:.1f}{_of(limits.cpus, ' cpus')})"
    if "memory_mib" in usage.values:
        parts.append(f"memory peak {peak('memory_mib'):.0f}{_of(limits.memory_mib)} MiB")
    if "disk_mib" in usage.values:
        parts.append(f"disk peak {peak('disk_mib'):.0f}{_of(limits.disk_mib)} MiB")
    if "pids" in usage.values:
        parts.append(f"processes peak {peak('pids'):.0f}{_of(limits.pids)}")
    if "network_received_mib" in usage.values:
        received, sent = peak("network_received_mib"), peak("network_sent_mib")
        parts.append(f"network {received:.1f} MiB received, {sent:.1f} MiB sent")
    for number, total in sorted(usage.gpu_memory_mib.items()):
        memory = f"memory peak {peak(f'gpu_{number}_memory_mib'):.0f} of {total} MiB"
        name = f"gpu_{number}_percent"
        busy = f"peak {peak(name):.0f} %, " if name in usage.values else ""
        parts.append(f"GPU {number} {busy}{memory}")
    return "Used: " + "; ".join(parts)


def _of(limit: float, unit: str = "") -> str:
    return f" of {limit:g}{unit}" if limit else unit
