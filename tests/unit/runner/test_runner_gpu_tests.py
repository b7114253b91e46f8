"""The self-test's parts: what CUDA's library is asked, what a shell tries; and a container that lost its GPU."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.gpu import Gpu
from nautilus_runner.gpus import cuda_check, devices
from nautilus_runner.gpus.selftest import script_for

UUID = "GPU-00112233-4455-6677-8899-aabbccddeeff"


class FakeCuda:
    """libcuda as ctypes calls it, over real memory. `broken` names a call that fails, or `memory`, which forgets."""

    def __init__(self, devices: int = 1, broken: str = "") -> None:
        self._devices, self._broken = devices, broken
        self._memory: Any = None
        self.is_closed = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self._broken:
                return 2
            if (known := type(self).__dict__.get(f"_{name}")) is not None:
                known(self, *arguments)
            return 0

        return call

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self._devices

    def _cuDeviceGetUuid(self, raw: Any, device: Any) -> None:
        raw._obj[:] = bytes.fromhex(UUID.removeprefix("GPU-").replace("-", ""))

    def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> None:
        self._memory = (ctypes.c_ubyte * size.value)()
        pointer._obj.value = ctypes.addressof(self._memory)

    def _cuMemsetD8_v2(self, pointer: Any, value: Any, size: Any) -> None:
        if self._broken != "memory":
            ctypes.memset(pointer.value, value.value, size.value)

    def _cuMemcpyDtoH_v2(self, target: Any, pointer: Any, size: Any) -> None:
        ctypes.memmove(target._obj, pointer.value, size.value)

    def _cuCtxDestroy_v2(self, context: Any) -> None:
        self.is_closed = True

    def _cuGetErrorString(self, status: int, words: Any) -> None:
        words._obj.value = b"out of memory"


def test_cuda_must_see_exactly_the_gpu_and_hold_what_is_written() -> None:
    cuda: Any = FakeCuda()
    assert cuda_check.check(cuda, UUID) == "64 MiB of memory written and read"
    assert cuda.is_closed


@pytest.mark.parametrize(
    ("cuda", "uuid", "told"),
    [
        (FakeCuda(devices=0), UUID, "CUDA sees 0 devices, not 1"),
        (FakeCuda(devices=8), UUID, "CUDA sees 8 devices, not 1"),
        (FakeCuda(), UUID.replace("00", "01"), f"CUDA sees {UUID}"),
        (FakeCuda(broken="cuInit"), UUID, "cuInit: out of memory"),
        (FakeCuda(broken="cuMemAlloc_v2"), UUID, "cuMemAlloc_v2: out of memory"),
        (FakeCuda(broken="memory"), UUID, "does not hold what was written"),
    ],
)
def test_what_does_not_work_is_said(cuda: Any, uuid: str, told: str) -> None:
    with pytest.raises(cuda_check.Failed, match=told):
        cuda_check.check(cuda, uuid)


def test_without_cuda_memory_is_not_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_check, "_LIBRARY", "libcuda-that-nobody-has.so.1")
    assert cuda_check.main(UUID) == 0
    assert "not tried" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize(
    ("listed", "status", "told"),
    [
        (UUID, 0, "nvidia-smi sees it"),
        ("GPU-other", 1, "does not see it"),
        ("", 1, "nvidia-smi: Unknown Error"),
    ],
)
def test_the_shell_part_works_in_any_shell(
    shell: str, listed: str, status: int, told: str, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    answer = f"echo 'GPU 0: H200 (UUID: {listed})'" if listed else "echo 'Unknown Error' >&2; exit 255"
    smi.write_text(f"#!/bin/sh\n{answer}\n")
    smi.chmod(0o755)
    commands = "\n".join(["set -e", *script_for(Gpu(UUID, "H200", 1), is_container=False)])
    done = subprocess.run(
        [shell, "-c", commands], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    assert (done.returncode, told in done.stdout) == (status, True), done


class Exec:
    """Docker's exec: answers what is put into `codes`, the last one for ever."""

    def __init__(self, *codes: int | None) -> None:
        self.codes = list(codes)

    def exec_create(self, container: str, command: list[str]) -> dict[str, str]:
        if self.codes[0] is None:
            raise docker.errors.NotFound("no such container")
        return {"Id": "1"}

    def exec_start(self, name: str) -> bytes:
        return b""

    def exec_inspect(self, name: str) -> dict[str, Any]:
        return {"ExitCode": self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]}


async def test_a_container_lost_its_gpu_when_two_looks_say_so() -> None:
    ended = asyncio.get_running_loop().create_future()
    assert "lost its GPU" in await devices.lost_before(ended, Exec(0, 113, 0, 113, 113), "c", 0.001)


@pytest.mark.parametrize("codes", [(0,), (127,), (None,), (113, 0)])
async def test_what_is_fine_or_cannot_be_asked_is_not_lost(codes: tuple[int | None, ...]) -> None:
    ended = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.1, ended.set_result, None)
    assert await devices.lost_before(ended, Exec(*codes), "c", 0.005) == ""
