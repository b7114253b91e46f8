"""GPUs that go wrong: what the driver tells, what is minded of it, and how one comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.executors.factory import Factory
from nautilus_runner.gpu import Gpu, find_gpus
from nautilus_runner.gpus import keeper as keeping
from nautilus_runner.gpus.health import Health
from nautilus_runner.gpus.keeper import GpuKeeper
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.gpus.selftest import Result, SelfTests
from nautilus_runner.settings import Settings, parse_settings
from nautilus_runner.testing.nvml import FakeGpu, FakeNvml


def watched(*gpus: FakeGpu) -> tuple[FakeNvml, Health]:
    nvml = FakeNvml(gpus)
    health = Health(find_gpus(nvml), nvml)
    assert health.open() and health.problems() == {}
    return nvml, health


def test_a_gpu_that_is_lost_is_told_by_what_the_driver_says() -> None:
    gpu = FakeGpu("GPU-a")
    nvml, health = watched(gpu, FakeGpu("GPU-b"))
    gpu.is_broken = True
    assert health.problems() == {"GPU-a": "the driver says: GPU is lost"}
    nvml.gpus.remove(gpu)
    assert health.problems() == {"GPU-a": "the driver says: Not Found"}
    health.close()
    assert not nvml.is_open and health.problems() == {}


def test_errors_of_memory_count_from_when_we_came_and_are_told_once() -> None:
    gpu = FakeGpu("GPU-a", lost_bits=3)
    _, health = watched(gpu, FakeGpu("GPU-b", lost_bits=None))
    gpu.lost_bits = 5
    assert health.problems() == {"GPU-a": "uncorrected ECC errors: 2 more, 5 since the last reset"}
    assert health.problems() == {}


@pytest.mark.parametrize(
    ("xid", "told"), [(79, "XID 79 (it has fallen off the bus)"), (999, "XID 999"), (31, ""), (13, "")]
)
def test_errors_of_the_gpu_are_told_and_those_of_programs_are_not(xid: int, told: str) -> None:
    gpu = FakeGpu("GPU-a")
    nvml, health = watched(gpu)
    nvml.report(gpu, xid)
    assert health.problems() == ({"GPU-a": told} if told else {})
    assert health.problems() == {}


def test_what_happens_to_a_partitioned_gpu_happens_to_its_instances() -> None:
    gpu = FakeGpu("GPU-a", instances=[FakeGpu("MIG-1"), FakeGpu("MIG-2")])
    nvml, health = watched(gpu, FakeGpu("GPU-b"))
    nvml.report(gpu, 48)
    assert set(health.problems()) == {"MIG-1", "MIG-2"}


def test_without_a_driver_nothing_is_watched() -> None:
    assert not Health((Gpu("GPU-a", "", 1),), FakeNvml(has_driver=False)).open()


# ---- the keeper


class FakeTests(SelfTests):
    """Passes unless a test says what is wrong; `tried` are the GPUs in order."""

    def __init__(self) -> None:
        self.wrong: dict[str, str] = {}
        self.tried: list[str] = []

    async def test(self, settings: Settings, gpu: Gpu) -> list[Result]:
        self.tried.append(gpu.uuid)
        wrong = self.wrong.get(gpu.uuid, "")
        return [Result(gpu.uuid, "process", not wrong, wrong, 0.0)]


class Rig:
    def __init__(self, tmp_path: Path, nvml: FakeNvml) -> None:
        self.pool, self.tests = GpuPool(is_settled=False), FakeTests()
        self.folder = tmp_path
        factory = Factory(tmp_path, "s_1")
        self.keeper = GpuKeeper(self.pool, factory, "s_1", tmp_path, {}, nvml=nvml, tests=self.tests)

    @asynccontextmanager
    async def running(self, text: str = "") -> AsyncIterator[None]:
        entry = '[[runners]]\nurl = "http://x"\ntoken = "t"\n'
        locks = f'gpu_lock_dir = "{self.folder}/locks"\n'
        task = asyncio.create_task(
            self.keeper.run(parse_settings(text + locks + entry, self.folder), lambda: None)
        )
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def states(self) -> str:
        return " ".join(str(one["state"]) for one in self.pool.states())

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not is_so():
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(keeping, "_AGAIN_S", 0.05)


async def test_each_gpu_is_tested_before_a_job_gets_it_and_a_bad_one_until_it_passes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")]))
    rig.tests.wrong["GPU-b"] = "memory does not hold"
    async with rig.running():
        await rig.until(lambda: rig.states() == "free aside")
        assert rig.pool.aside == {"GPU-b": "failed its self-test: memory does not hold"}
        rig.tests.wrong.clear()
        await rig.until(lambda: rig.states() == "free free")
    assert rig.tests.tried[:2] == ["GPU-a", "GPU-b"] and rig.tests.tried.count("GPU-a") == 1


async def test_the_test_at_the_beginning_can_be_switched_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FakeNvml([FakeGpu("GPU-a")]))
    async with rig.running("gpu_selftest = false\n"):
        await rig.until(lambda: rig.states() == "free")
    assert rig.tests.tried == []


async def test_a_gpu_that_errs_is_set_aside_while_others_go_on_and_comes_back_once_it_passes(
    tmp_path: Path,
) -> None:
    gpu = FakeGpu("GPU-a")
    nvml = FakeNvml([gpu, FakeGpu("GPU-b")])
    rig, told = Rig(tmp_path, nvml), list[str]()
    rig.pool.on_aside = lambda uuid, reason: told.append(f"{uuid}: {reason}")
    async with rig.running():
        await rig.until(lambda: rig.states() == "free free")
        rig.tests.wrong["GPU-a"] = "CUDA sees 0 devices"
        nvml.report(gpu, 79)
        await rig.until(lambda: rig.states() == "aside free")
        assert told[0] == "GPU-a: XID 79 (it has fallen off the bus)"
        rig.tests.wrong.clear()
        await rig.until(lambda: rig.states() == "free free")
    assert not nvml.is_open


async def test_a_gpu_that_a_job_still_has_is_not_tested(tmp_path: Path) -> None:
    gpu = FakeGpu("GPU-a")
    nvml = FakeNvml([gpu])
    rig = Rig(tmp_path, nvml)
    held = rig.pool.claim(["GPU-a"])
    async with rig.running("gpu_selftest = false\n"):
        await rig.until(lambda: rig.states() == "busy")
        nvml.report(gpu, 48)
        await rig.until(lambda: rig.states() == "aside")
        await asyncio.sleep(0.05)
        assert rig.tests.tried == []
        rig.pool.give_back(held)
        await rig.until(lambda: rig.states() == "free")


async def test_a_driver_that_hangs_gives_out_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_PATIENCE_S", 0.05)
    rig, hung = Rig(tmp_path, FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])), threading.Event()
    rig.pool.claim(["GPU-a"])

    def problems(_: Health) -> dict[str, str]:
        hung.wait(30)
        return {}

    async with rig.running("gpu_selftest = false\n"):
        await rig.until(lambda: rig.states() == "busy free")
        monkeypatch.setattr(Health, "problems", problems)
        rig.tests.wrong["GPU-b"] = "took longer than 120 s"
        await rig.until(lambda: rig.states() == "busy aside")
        assert "does not answer" in rig.pool.aside["GPU-b"]
        hung.set()
        rig.tests.wrong.clear()
        await rig.until(lambda: rig.states() == "busy free")


async def test_a_gpu_that_went_while_the_runner_was_away_is_lost_to_its_job(tmp_path: Path) -> None:
    rig, told = Rig(tmp_path, FakeNvml([FakeGpu("GPU-a")])), list[str]()
    rig.pool.on_aside = lambda uuid, reason: told.append(uuid)
    rig.pool.claim(["GPU-gone"])
    rig.pool.claim(["GPU-a"])
    async with rig.running('gpus = "none"\n'):
        await asyncio.sleep(0.05)
        assert told == []  # they were not looked for
    async with rig.running():
        await rig.until(lambda: told == ["GPU-gone"])


async def test_what_is_not_ours_to_give_is_not_even_tested(tmp_path: Path) -> None:
    nvml = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    rig = Rig(tmp_path, nvml)
    async with rig.running('gpus = "1"\n'):
        await rig.until(lambda: rig.states() == "free")
        nvml.gpus[0].is_broken = True
        await asyncio.sleep(0.05)
        assert rig.pool.aside == {}
    assert [gpu.uuid for gpu in rig.pool.gpus] == rig.tests.tried == ["GPU-b"]
