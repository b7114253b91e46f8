"""NVML at the library's boundary: the few calls that the runner makes, over GPUs that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FakeGpu:
    uuid: str
    name: str = "NVIDIA H200"
    memory_mib: int = 143771
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class _Memory:
    total: int


class FakeNvml:
    """Stands in for the module `pynvml`. Without GPUs and with `has_driver` False, as on most machines."""

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: Sequence[FakeGpu] = (), has_driver: bool = True) -> None:
        self._gpus = gpus
        self._has_driver = has_driver
        self.is_open = False

    def nvmlInit(self) -> None:
        if not self._has_driver:
            raise self.NVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self._gpus[index].is_broken:
            raise self.NVMLError("GPU is lost")
        return self._gpus[index]

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu) -> _Memory:
        return _Memory(handle.memory_mib << 20)
