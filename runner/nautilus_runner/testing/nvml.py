"""NVML at the library's boundary: the few calls that the runner makes, over GPUs that a test makes up.

A test may change a GPU at any time: lose it, break it, count errors, queue events. Source: NVML API reference (what
each call raises), nvidia-ml-py's names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class FakeGpu:
    """`is_broken`: it does not answer. `instances` make it a partitioned one. `utilization` None: it does not tell."""

    uuid: str
    name: str = "NVIDIA H200"
    memory_mib: int = 143771
    is_broken: bool = False
    utilization: int | None = 0
    used_mib: int = 0
    lost_bits: int | None = 0
    minor: int = 0
    instances: list[FakeGpu] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Memory:
    total: int
    used: int


@dataclass(frozen=True, slots=True)
class _Utilization:
    gpu: int
    memory: int = 0


@dataclass(frozen=True, slots=True)
class _Event:
    device: FakeGpu
    eventData: int
    eventType: int = 8


class FakeNvml:
    """Stands in for the module `pynvml`. Without GPUs and with `has_driver` False, as on most machines."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: Sequence[FakeGpu] = (), has_driver: bool = True) -> None:
        self.gpus = list(gpus)
        self.has_driver = has_driver
        self.opened = 0
        self._events: deque[_Event] = deque()
        self._registered: set[str] = set()

    @property
    def is_open(self) -> bool:
        return self.opened > 0

    def report(self, gpu: FakeGpu, xid: int) -> None:
        """The driver notes an error, for who registered for that."""
        if gpu.uuid in self._registered:
            self._events.append(_Event(gpu, xid))

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise self.NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._check_open()
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check_open()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._check_open()
        if index >= len(self.gpus):
            raise self.NVMLError("Invalid Argument")
        return self._answering(self.gpus[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        self._check_open()
        for gpu in self.gpus:
            for device in (gpu, *gpu.instances):
                if device.uuid == uuid:
                    return self._answering(device)
        raise self.NVMLError("Not Found")

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetMinorNumber(self, handle: FakeGpu) -> int:
        return handle.minor

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> _Memory:
        self._answering(handle)
        return _Memory(handle.memory_mib << 20, handle.used_mib << 20)

    def nvmlDeviceGetUtilizationRates(self, handle: FakeGpu) -> _Utilization:
        if self._answering(handle).utilization is None:
            raise self.NVMLError("Not Supported")
        return _Utilization(handle.utilization or 0)

    def nvmlDeviceGetTotalEccErrors(self, handle: FakeGpu, kind: int, counter: int) -> int:
        if self._answering(handle).lost_bits is None or (kind, counter) != (1, 0):
            raise self.NVMLError("Not Supported")
        return handle.lost_bits or 0

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if not handle.instances:
            raise self.NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return 7 if handle.instances else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeGpu:
        if index >= len(handle.instances):
            raise self.NVMLError("Not Found")
        return handle.instances[index]

    def nvmlEventSetCreate(self) -> FakeNvml:
        self._check_open()
        return self

    def nvmlEventSetFree(self, events: FakeNvml) -> None:
        self._registered.clear()

    def nvmlDeviceRegisterEvents(self, handle: FakeGpu, types: int, events: FakeNvml) -> None:
        self._registered.add(self._answering(handle).uuid)

    def nvmlEventSetWait_v2(self, events: FakeNvml, timeout_ms: int) -> _Event:
        self._check_open()
        if not self._events:
            raise self.NVMLError("Timeout")
        return self._events.popleft()

    def _check_open(self) -> None:
        if not self.is_open:
            raise self.NVMLError("Uninitialized")

    def _answering(self, gpu: FakeGpu) -> FakeGpu:
        if gpu.is_broken:
            raise self.NVMLError("GPU is lost")
        return gpu
