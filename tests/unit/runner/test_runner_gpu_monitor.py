"""GPUs of a machine whose driver the runner cannot see: nvidia-smi in a container tells how they do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.executors import gpu_monitor
from nautilus_runner.executors.gpu_monitor import GpuMonitor, Reading, monitor_config, parse_readings
from nautilus_runner.executors.gpu_probe import Probed
from nautilus_runner.gpu import Gpu, GpuUse
from nautilus_runner.gpus import keeper as keeping
from nautilus_runner.gpus.keeper import GpuKeeper
from nautilus_runner.gpus.pool import GpuPool
from nautilus_runner.settings import parse_settings

A, B = Gpu("GPU-aa", "NVIDIA H200", 143771), Gpu("GPU-bb", "NVIDIA H200", 143771)
WELL = ["GPU-aa, 97, 2048, 143771, 0", "GPU-bb, 0, 0, 143771, [N/A]"]


class FakeDaemon:
    """Docker's API as far as a monitor uses it; `lines` is what the container has said last."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.is_running, self.is_down = True, False
        self.there: dict[str, Any] = {}
        self.made = 0

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": name} for name in self.there]

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"Image": f"sha256:image-of-{name}", "State": {"Running": self.is_running}}

    def create_container_from_config(self, config: dict[str, Any]) -> dict[str, Any]:
        if self.is_down:
            raise docker.errors.DockerException("the daemon is away")
        self.made += 1
        self.there[f"m{self.made}"] = config
        return {"Id": f"m{self.made}"}

    def start(self, name: str) -> None:
        self.is_running = True

    def logs(self, name: str, tail: int, **_: Any) -> bytes:
        return "\n".join(self.lines[-tail:]).encode()

    def remove_container(self, name: str, **_: Any) -> None:
        self.there.pop(name, None)


def monitor(api: FakeDaemon) -> GpuMonitor:
    return GpuMonitor(api, "own", "s_1", (A, B))


def test_its_container_ends_by_itself_and_belongs_to_no_job() -> None:
    config = monitor_config("image", "s_1")
    assert config["Entrypoint"][0] == "timeout" and config["Cmd"][0] == "nvidia-smi"
    assert (
        config["HostConfig"]["NetworkMode"] == "none"
        and config["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    )
    assert "org.nautilus.runner.job" not in config["Labels"]


def test_lines_are_read_as_nvidia_smi_writes_them() -> None:
    assert parse_readings(
        "\n".join(["GPU-aa, 1, 1, 9, 0", *WELL, "Failed to initialize NVML", "GPU-x, y"])
    ) == {
        "GPU-aa": Reading(GpuUse(97, 2048, 143771), 0),
        "GPU-bb": Reading(GpuUse(0, 0, 143771), None),
    }
    [lost] = parse_readings("GPU-aa, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]").values()
    assert lost.problem == "GPU is lost"


def test_what_they_do_is_known_after_a_look() -> None:
    api = FakeDaemon(WELL)
    watched = monitor(api)
    assert watched.use(["GPU-aa"]) == {}
    assert watched.problems() == {}
    assert watched.use(["GPU-aa", "GPU-zz"]) == {"GPU-aa": GpuUse(97, 2048, 143771)}
    watched.close()
    assert api.there == {} and watched.use(["GPU-aa"]) == {}


def test_what_is_wrong_is_told_of_the_devices_that_jobs_get() -> None:
    api = FakeDaemon(WELL)
    part = Gpu("MIG-1", "", 1, "GPU-bb")
    watched = GpuMonitor(api, "own", "s_1", (A, part))
    assert watched.problems() == {}
    api.lines = ["GPU-aa, 0, 0, 143771, 2", "GPU-bb, [GPU is lost], 0, 0, 0"]
    assert watched.problems() == {
        "GPU-aa": "uncorrected ECC errors: 2 more, 2 since the last reset",
        "MIG-1": "nvidia-smi says: GPU is lost",
    }


def test_one_that_ended_is_made_anew_but_not_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeDaemon(WELL)
    watched = monitor(api)
    watched.problems()
    api.is_running = False
    watched.problems()
    assert api.made == 1
    monkeypatch.setattr(gpu_monitor, "_START_AGAIN_S", 0.0)
    watched.problems()
    assert (api.made, list(api.there)) == (2, ["m2"])


def test_without_the_daemon_nothing_is_known_and_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    api = FakeDaemon(WELL)
    api.is_down = True
    assert monitor(api).problems() == {}
    assert "the daemon is away" in caplog.text


async def test_it_runs_only_while_jobs_have_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeDaemon(WELL)
    monkeypatch.setattr(keeping, "_WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(keeping, "library", lambda: None)
    monkeypatch.setattr(keeping.gpu_probe, "ask_daemons", lambda *_: Probed((A, B), api, "own"))
    pool = GpuPool(is_settled=False)
    keeper = GpuKeeper(pool, keeping.Factory(tmp_path, "s_1"), "s_1", tmp_path, {})
    text = f'gpu_selftest = false\ngpu_lock_dir = "{tmp_path}/locks"\n[[runners]]\nurl = "http://x"\ntoken = "t"\n'
    task = asyncio.create_task(keeper.run(parse_settings(text, tmp_path), lambda: None))

    async def until(is_there: bool) -> None:
        async with asyncio.timeout(30):
            while bool(api.there) != is_there:
                await asyncio.sleep(0.005)

    async with asyncio.timeout(30):
        while not pool.gpus:
            await asyncio.sleep(0.005)
    assert api.made == 0
    held = pool.claim(["GPU-aa"])
    await until(True)
    async with asyncio.timeout(30):
        while not pool.read_use(["GPU-aa"]):
            await asyncio.sleep(0.005)
    pool.give_back(held)
    await until(False)
    pool.claim(["GPU-bb"])
    await until(True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert api.there == {}
