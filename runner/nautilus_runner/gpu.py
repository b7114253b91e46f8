"""This machine's GPUs and who has them. Found by NVML, which is loaded only when asked; no driver: no GPUs.

A GPU is named by its UUID and given to one job at a time. `CUDA_VISIBLE_DEVICES` in our own environment is a
limit that somebody else set (a scheduler, an administrator): what it hides is not ours to give.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nautilus_runner.errors import JobMisconfigured

log = logging.getLogger(__name__)

COUNT_VARIABLE = "NAUTILUS_GPUS"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gpu:
    uuid: str
    name: str
    memory_mib: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Allotment:
    """The GPUs of one job; usually none."""

    uuids: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """What makes exactly these visible to CUDA, and none where there are none."""
        shown = ",".join(self.uuids)
        return {"CUDA_VISIBLE_DEVICES": shown, "NVIDIA_VISIBLE_DEVICES": shown or "void"}


def find_gpus(visible: str | None = None, nvml: Any = None) -> tuple[Gpu, ...]:
    """The GPUs of this machine in NVML's order; () without a driver or without the library.

    `visible` is a value of CUDA_VISIBLE_DEVICES (indices or UUIDs) that limits them; None: no limit.
    `nvml` is the library, to be replaced in tests.
    """
    nvml = nvml or _library()
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.debug("no GPUs: %s", error)
        return ()
    try:
        found = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                found.append(_gpu(nvml, index))
            except nvml.NVMLError as error:
                log.warning("GPU %d does not answer and is left out: %s", index, error)
    finally:
        nvml.nvmlShutdown()
    return limited(found, visible)


def _library() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)), memory.total // _MIB
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def limited(found: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """As CUDA reads the variable: in the order named, up to the first name that means nothing."""
    if visible is None:
        return tuple(found)
    chosen: list[Gpu] = []
    for word in visible.split(","):
        name = word.strip()
        by_name = [gpu for gpu in found if name.startswith("GPU-") and gpu.uuid.startswith(name)]
        by_index = [found[int(name)]] if name.isdigit() and int(name) < len(found) else []
        if len(by_name or by_index) != 1:
            break
        chosen += by_name or by_index
    return tuple(dict.fromkeys(chosen))


def chosen(found: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """What the setting `gpus` leaves of them: `all`, `none`, or some by index or UUID."""
    if wanted in ("all", "none"):
        return tuple(found) if wanted == "all" else ()
    return limited(found, wanted)


def asked_for(variables: Mapping[str, str]) -> int:
    """How many GPUs a job asks for. Raises JobMisconfigured for what is no count."""
    text = variables.get(COUNT_VARIABLE, "").strip()
    if not text:
        return 0
    if not text.isdigit() or int(text) > 1024:
        raise JobMisconfigured(f"{COUNT_VARIABLE} must be a count of GPUs, not {text!r}")
    return int(text)


class GpuPool:
    """Who has which GPU. Given in order of asking: a large wish is not starved by small ones."""

    def __init__(self, gpus: tuple[Gpu, ...], *, is_settled: bool = True) -> None:
        """`is_settled` False: GPUs are still looked for; a job that wants some waits for `settle`."""
        self.gpus = gpus
        self._free = list(gpus)
        self._taken: set[str] = set()
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()
        self._settled = asyncio.Event()
        if is_settled:
            self._settled.set()

    def settle(self, gpus: tuple[Gpu, ...]) -> None:
        """These are all; what jobs have already stays theirs."""
        self.gpus = gpus
        self._free = [gpu for gpu in gpus if gpu.uuid not in self._taken]
        self._settled.set()
        self._returned.set()

    @property
    def free(self) -> int:
        return len(self._free)

    async def take(self, count: int) -> Allotment:
        """Wait for `count` GPUs. Raises JobMisconfigured where this machine will never have them."""
        if count == 0:
            return Allotment()
        await self._settled.wait()
        if count > len(self.gpus):
            raise JobMisconfigured(f"the job asks for {count} GPUs, this runner has {len(self.gpus)}")
        async with self._turn:
            while len(self._free) < count:
                self._returned.clear()
                await self._returned.wait()
            given, self._free = self._free[:count], self._free[count:]
        uuids = tuple(gpu.uuid for gpu in given)
        self._taken.update(uuids)
        return Allotment(uuids)

    def claim(self, uuids: tuple[str, ...]) -> Allotment:
        """Mark GPUs as taken that a job already has (after a restart)."""
        self._taken.update(uuids)
        self._free = [gpu for gpu in self._free if gpu.uuid not in uuids]
        return Allotment(uuids)

    def give_back(self, allotment: Allotment) -> None:
        self._taken.difference_update(allotment.uuids)
        free = {gpu.uuid for gpu in self._free} | set(allotment.uuids)
        self._free = [gpu for gpu in self.gpus if gpu.uuid in free]
        self._returned.set()
