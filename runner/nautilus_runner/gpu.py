"""GPUs as NVIDIA's driver tells of them (NVML, which is loaded only where there is one).

A GPU is named by its UUID: `GPU-…`, or `MIG-…` for an instance of a partitioned one, which is then the device that
jobs get. What is called here blocks: milliseconds while somebody keeps the library open (`Driver`), up to seconds for
the first call on a machine whose driver sleeps.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

log = logging.getLogger(__name__)

_MIB = 1 << 20
_LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that a job can get. `parent` is the GPU that a MIG instance is part of, else ""."""

    uuid: str
    name: str
    memory_mib: int
    parent: str = ""

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        if not self.parent:
            del found["parent"]
        return found


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What one GPU does at this moment. None: the device does not tell (a MIG instance tells no utilisation)."""

    utilization_percent: int | None
    memory_used_mib: int
    memory_total_mib: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Allotment:
    """The GPUs of one job; usually none. `share_mib`: what it may use of a GPU that others use too (0: all of it)."""

    uuids: tuple[str, ...] = ()
    share_mib: int = 0

    def environment(self) -> dict[str, str]:
        """What makes exactly these visible to CUDA, and none where there are none."""
        shown = ",".join(self.uuids)
        visible = {"CUDA_VISIBLE_DEVICES": shown, "NVIDIA_VISIBLE_DEVICES": shown or "void"}
        return visible | ({"NAUTILUS_GPU_SHARE_MIB": str(self.share_mib)} if self.share_mib else {})


def find_gpus(nvml: Any = None) -> tuple[Gpu, ...]:
    """The devices of this machine in NVML's order, instances in place of partitioned GPUs; () without a driver.

    `nvml` is the library, to be replaced in tests.
    """
    nvml = nvml or library()
    if nvml is None:
        return ()
    try:
        with opened(nvml):
            return tuple(_devices(nvml))
    except nvml.NVMLError as error:
        log.debug("no GPUs: %s", error)
        return ()


def usage(uuids: Iterable[str], nvml: Any = None) -> dict[str, GpuUse]:
    """What these GPUs do now, by UUID; one that does not answer, or that this process cannot see, is left out."""
    wanted = tuple(uuids)
    nvml = nvml or (library() if wanted else None)
    found: dict[str, GpuUse] = {}
    if nvml is None:
        return found
    try:
        with opened(nvml):
            for uuid in wanted:
                try:
                    found[uuid] = _use(nvml, uuid)
                except nvml.NVMLError as error:
                    log.debug("%s does not tell its use: %s", uuid, error)
    except nvml.NVMLError as error:
        log.debug("no use of GPUs: %s", error)
    return found


def library() -> Any:
    """pynvml where there is a driver; looked for by its library first, since the import costs memory."""
    import ctypes

    try:
        ctypes.CDLL(_LIBRARY)
        import pynvml
    except (OSError, ImportError):
        return None
    return pynvml


@contextmanager
def opened(nvml: Any) -> Iterator[None]:
    """The library counts who has it open. Raises NVMLError."""
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _devices(nvml: Any) -> Iterator[Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            whole = _gpu(nvml, handle)
            if _is_partitioned(nvml, handle):
                yield from _instances(nvml, handle, whole)
            else:
                yield whole
        except nvml.NVMLError as error:
            log.warning("GPU %d does not answer and is left out: %s", index, error)


def _is_partitioned(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:  # not supported: most are not
        return False


def _instances(nvml: Any, handle: Any, whole: Gpu) -> Iterator[Gpu]:
    """MIG instances; the partitioned GPU itself can't be given to anybody."""
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # no instance of that number
            continue
        yield _gpu(nvml, instance, whole.uuid)


def _gpu(nvml: Any, handle: Any, parent: str = "") -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    return Gpu(_text(uuid), _text(name), memory.total // _MIB, parent)


def _use(nvml: Any, uuid: str) -> GpuUse:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        busy = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        busy = None
    return GpuUse(busy, memory.used // _MIB, memory.total // _MIB)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
