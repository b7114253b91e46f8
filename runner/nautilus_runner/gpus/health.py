"""How the GPUs do, by the driver: gone, in error, or with memory that lost bits.

Errors that a program's own fault leads to (a page fault in its kernel) say nothing of the GPU, and any job could make
them: they are not minded.
Source: NVIDIA "XID Errors"; the list is the one of NVIDIA's k8s-device-plugin (`rm/health.go`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nautilus_runner.gpu import Gpu, library

log = logging.getLogger(__name__)

FAULTS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
XIDS = {
    48: "double bit ECC error",
    62: "internal halt of its microcontroller",
    63: "a memory row is remapped",
    64: "a memory row can't be remapped",
    74: "NVLink error",
    79: "it has fallen off the bus",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "its firmware does not answer",
    120: "error of its firmware",
}


class Health:
    """Keeps the driver open. All of its methods block; one thread at a time."""

    def __init__(self, gpus: Sequence[Gpu], nvml: Any = None) -> None:
        """Of whole GPUs: what goes wrong with one goes wrong with its instances."""
        self._gpus = tuple(gpus)
        self._wholes = tuple(dict.fromkeys(gpu.parent or gpu.uuid for gpu in gpus))
        self._nvml = nvml or library()
        self._events: Any = None
        self._lost_bits: dict[str, int] = {}
        self._is_open = False

    def open(self) -> bool:
        """False where there is no driver to ask. What was wrong before is not ours to find: only what happens now."""
        nvml = self._nvml
        if nvml is None or self._is_open:
            return self._is_open
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            log.debug("health of GPUs is not watched: %s", error)
            return False
        self._is_open = True
        self._lost_bits = {uuid: self._count_lost_bits(uuid) for uuid in self._wholes}
        try:
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            log.debug("errors of GPUs are not told: %s", error)
        for uuid in self._wholes if self._events is not None else ():
            try:
                handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)
            except nvml.NVMLError as error:
                log.debug("errors of %s are not told: %s", uuid, error)
        return True

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            nvml = self._nvml
            try:
                if self._events is not None:
                    nvml.nvmlEventSetFree(self._events)
                nvml.nvmlShutdown()
            except nvml.NVMLError as error:
                log.debug("the driver is not closed: %s", error)
            self._events = None

    def problems(self) -> dict[str, str]:
        """What is wrong now or happened since the last time, by the UUID of the device that jobs get."""
        if not self._is_open:
            return {}
        of_wholes = {uuid: self._state(uuid) for uuid in self._wholes} | self._reported()
        found = {gpu.uuid: of_wholes.get(gpu.parent or gpu.uuid, "") for gpu in self._gpus}
        return {uuid: problem for uuid, problem in found.items() if problem}

    def minor(self, uuid: str) -> int | None:
        """The number of a whole GPU's device file."""
        try:
            return int(self._nvml.nvmlDeviceGetMinorNumber(self._nvml.nvmlDeviceGetHandleByUUID(uuid)))
        except self._nvml.NVMLError:
            return None

    def _state(self, uuid: str) -> str:
        nvml = self._nvml
        try:
            nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(uuid))
        except nvml.NVMLError as error:
            return f"the driver says: {error}"
        lost, before = self._count_lost_bits(uuid), self._lost_bits.get(uuid, 0)
        self._lost_bits[uuid] = max(lost, before)
        return (
            f"uncorrected ECC errors: {lost - before} more, {lost} since the last reset"
            if lost > before
            else ""
        )

    def _count_lost_bits(self, uuid: str) -> int:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            kind, counter = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            return int(nvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter))
        except nvml.NVMLError:  # most have no ECC; what is gone tells that elsewhere
            return 0

    def _reported(self) -> dict[str, str]:
        """The errors that the driver has queued for us since the last time."""
        nvml, found = self._nvml, dict[str, str]()
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                xid = int(event.eventData)
                uuid = nvml.nvmlDeviceGetUUID(event.device)
            except nvml.NVMLError:  # a timeout: there are no more. A GPU that is gone tells by its state.
                break
            if xid not in FAULTS_OF_PROGRAMS:
                words = XIDS.get(xid)
                found[uuid] = f"XID {xid}" + (f" ({words})" if words else "")
        return found
