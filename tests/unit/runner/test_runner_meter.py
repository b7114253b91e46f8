"""The meter: what it keeps by watching, GPUs that stand idle, and what a run's page is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from nautilus_runner import gpu
from nautilus_runner.causes import Cause
from nautilus_runner.errors import GpuIdle, JobError
from nautilus_runner.gpu import GpuUse
from nautilus_runner.limits import Limits
from nautilus_runner.settings import RunnerSettings
from nautilus_runner.testing.nvml import FakeGpu, FakeNvml
from nautilus_runner.usage import meter as meters
from nautilus_runner.usage.meter import Meter
from nautilus_runner.usage.reading import Reading, Usage
from nautilus_runner.usage.tracking import RunLog, run_log_for, system_metrics
from nautilus_runner.variables import Variable, Variables


class Probe:
    """A job that uses nothing but its GPU."""

    async def usage(self) -> Reading:
        return Reading(0.0, 1 << 20, 1)

    async def disk_bytes(self) -> int:
        return 0

    def watched(self) -> frozenset[str]:
        return frozenset()


@pytest.mark.parametrize(("percent", "is_ended"), [(0, True), (40, False), (None, False)])
async def test_a_job_whose_gpus_stand_idle_for_too_long_is_ended(
    monkeypatch: pytest.MonkeyPatch, percent: int | None, is_ended: bool
) -> None:
    monkeypatch.setattr(meters, "_FIRST_S", (0.01,) * 100)
    ended: list[JobError] = []
    looks = 0
    enough = asyncio.Event()

    nvml = FakeNvml([FakeGpu("GPU-1", memory_mib=80000, utilization=percent, used_mib=1000)])

    def use(uuids: tuple[str, ...]) -> Mapping[str, GpuUse]:
        return gpu.usage(uuids, nvml)

    async def count(usage: Usage) -> None:
        nonlocal looks
        looks += 1
        if looks >= 20 or ended:
            enough.set()

    meter = Meter()
    limits = Limits(idle_gpu_s=0.05)
    async with meter.watching(Probe(), limits, ended.append, lambda: ("GPU-1",), use, count):
        await asyncio.wait_for(enough.wait(), 10)
    assert [type(error) for error in ended] == ([GpuIdle] if is_ended else [])
    assert meter.usage.as_json()["gpu_0_memory_mib"] == {"now": 1000, "peak": 1000}


def test_metrics_have_the_names_and_units_of_mlflow() -> None:
    usage = Usage()
    usage.take(Reading(1.0, 100 << 20, 5, 10_000_000, 1_000_000, at=1.0))
    usage.take(Reading(3.0, 200 << 20, 5, 20_000_000, 2_000_000, at=3.0))
    usage.take_disk(50 << 20)
    usage.take_gpus(("GPU-a",), {"GPU-a": GpuUse(75, 20000, 80000)})
    assert system_metrics(usage, Limits(cpus=2, memory_mib=400, disk_mib=100)) == {
        "system/cpu_utilization_percentage": 50.0,
        "system/system_memory_usage_megabytes": 209.72,
        "system/system_memory_usage_percentage": 50.0,
        "system/disk_usage_megabytes": 52.43,
        "system/disk_usage_percentage": 50.0,
        "system/disk_available_megabytes": 52.43,
        "system/network_receive_megabytes": 20.0,
        "system/network_transmit_megabytes": 2.0,
        "system/gpu_0_memory_usage_megabytes": 20971.52,
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_utilization_percentage": 75.0,
    }


class Tracking:
    """A tracking server that keeps what it is sent, and answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        self.heads.append(head)
        self.bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(
            f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
        )
        await writer.drain()
        writer.close()


@pytest.fixture
async def tracking() -> AsyncIterator[tuple[Tracking, str]]:
    kept = Tracking()
    server = await asyncio.start_server(kept.serve, "127.0.0.1", 0)
    yield kept, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_a_run_is_told_its_use_and_its_end_with_the_jobs_own_token(
    tracking: tuple[Tracking, str],
) -> None:
    kept, url = tracking
    usage = Usage()
    usage.take(Reading(1.0, 100 << 20, 5))
    run = RunLog(url, "", "the-token", "r" * 32)
    await run.log(usage, Limits())
    await run.end(Cause.OUT_OF_MEMORY, "peak 64 MiB", usage)
    await run.close()
    assert kept.heads[0].startswith("POST /api/2.0/mlflow/runs/log-batch ")
    assert "Authorization: Bearer the-token" in kept.heads[0]
    metrics, end = kept.bodies
    assert metrics["run_id"] == "r" * 32
    assert metrics["metrics"][0]["key"] == "system/system_memory_usage_megabytes"
    assert {"key": "nautilus.end.cause", "value": "out_of_memory"} in end["tags"]


async def test_a_tracking_server_that_refuses_is_not_asked_again(tracking: tuple[Tracking, str]) -> None:
    kept, url = tracking
    kept.status = 403
    usage = Usage()
    usage.take(Reading(1.0, 100 << 20, 5))
    run = RunLog(url, "", "t", "r")
    for _ in range(3):
        await run.log(usage, Limits())
    await run.close()
    assert len(kept.bodies) == 1


@pytest.mark.parametrize(
    ("uri", "is_told"),
    [
        ("http://nautilus.example:8080", True),  # the host that gives the jobs
        ("http://tracking.example:5000/", True),  # the configuration names it
        ("http://169.254.169.254", False),
        ("http://127.0.0.1:2375", False),
    ],
)
def test_a_jobs_variables_lead_this_machine_nowhere(uri: str, is_told: bool) -> None:
    settings = RunnerSettings.model_validate(
        {
            "url": "http://nautilus.example:10080",
            "token": "t",
            "environment": ["MLFLOW_TRACKING_URI=http://tracking.example:5000"],
        }
    )
    names = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_RUN_ID": "r", "MLFLOW_TRACKING_TOKEN": "t"}
    variables = Variables(tuple(Variable(key, value) for key, value in names.items()), "/tmp")
    assert (run_log_for(variables, settings) is not None) is is_told
