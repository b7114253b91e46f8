"""GPUs of a machine whose driver the runner cannot see: asked of a container, and waited for by jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from nautilus_runner.errors import ConfigurationError, JobMisconfigured
from nautilus_runner.executors import gpu_probe
from nautilus_runner.executors.gpu_probe import parse_query, probe_config, probe_gpus, settle_pool
from nautilus_runner.gpu import Gpu, GpuPool, chosen
from nautilus_runner.settings import Settings, parse_settings

A, B = Gpu("GPU-aa", "NVIDIA H200", 143771), Gpu("GPU-bb", "NVIDIA H200", 143771)
OUTPUT = b"GPU-aa, NVIDIA H200, 143771\nGPU-bb, NVIDIA H200, 143771\n"


class FakeDaemon:
    """Docker's API as far as a probe uses it; without the toolkit a container with GPUs does not start."""

    def __init__(self, output: bytes = OUTPUT, status: int = 0, has_toolkit: bool = True) -> None:
        self.containers_left: dict[str, Any] = {}
        self.created: list[dict[str, Any]] = []
        self._output, self._status, self._has_toolkit = output, status, has_toolkit

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [{"Id": name} for name in self.containers_left]

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"Image": f"sha256:image-of-{name}"}

    def create_container_from_config(self, config: dict[str, Any]) -> dict[str, Any]:
        self.created.append(config)
        self.containers_left[f"probe{len(self.created)}"] = config
        return {"Id": f"probe{len(self.created)}"}

    def start(self, name: str) -> None:
        if not self._has_toolkit:
            response = requests.Response()
            response.status_code = 500
            raise docker.errors.APIError("could not select device driver", response)

    def wait(self, name: str, timeout: int) -> dict[str, int]:
        return {"StatusCode": self._status}

    def logs(self, name: str, **_: Any) -> bytes:
        return self._output

    def remove_container(self, name: str, **_: Any) -> None:
        del self.containers_left[name]


def settings(gpus: str = "all", executor: str = "docker") -> Settings:
    entry = f'[[runners]]\nurl = "http://x"\ntoken = "t"\nexecutor = "{executor}"\n'
    return parse_settings(f'gpus = "{gpus}"\n{entry}', Path("/x"))


async def settled(
    pool: GpuPool, wish: Settings, api: Any, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    monkeypatch.setattr(gpu_probe.containers, "own_container_id", lambda _: own)
    await settle_pool(pool, wish, lambda host: (api, ()), "s_1", None)


def test_a_container_of_our_own_image_is_asked_and_removed() -> None:
    api = FakeDaemon()
    assert probe_gpus(api, "own", "s_1") == (A, B)
    [made] = api.created
    assert made["Image"] == "sha256:image-of-own"
    assert made["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    assert made["HostConfig"]["NetworkMode"] == "none" and "Mounts" not in made["HostConfig"]
    assert api.containers_left == {}


@pytest.mark.parametrize(
    "api", [FakeDaemon(has_toolkit=False), FakeDaemon(b"no devices", 6), FakeDaemon(b"")]
)
def test_a_daemon_without_gpus_has_none_and_keeps_nothing(api: FakeDaemon) -> None:
    assert probe_gpus(api, "own", "s_1") == ()
    assert api.containers_left == {}


def test_what_a_killed_runner_left_is_removed_first() -> None:
    api = FakeDaemon()
    api.containers_left["old"] = {}
    probe_gpus(api, "own", "s_1")
    assert api.containers_left == {}


def test_a_probe_is_no_jobs_so_that_no_orphan_hunt_takes_it_away() -> None:
    assert "org.nautilus.runner.job" not in probe_config("image", "s_1")["Labels"]


def test_lines_that_are_no_gpu_are_left_out() -> None:
    assert parse_query("GPU-aa, NVIDIA H200, 143771\nFailed to initialize NVML\nGPU-x, y\n") == (A,)


@pytest.mark.parametrize(
    ("wanted", "left"), [("all", (A, B)), ("none", ()), ("1", (B,)), ("GPU-bb,0", (B, A))]
)
def test_the_setting_chooses_among_them(wanted: str, left: tuple[Gpu, ...]) -> None:
    assert chosen((A, B), wanted) == left


@pytest.mark.parametrize("value", ["two", "0;1", "", "device=0"])
def test_another_word_for_gpus_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigurationError, match="gpus"):
        settings(value)


async def test_a_job_that_wants_gpus_waits_until_they_were_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = GpuPool((), is_settled=False)
    waiting = asyncio.create_task(pool.take(1))
    assert (await pool.take(0)).uuids == ()
    await asyncio.sleep(0)
    assert not waiting.done()
    await settled(pool, settings(), FakeDaemon(), monkeypatch, "own")
    assert (await waiting).uuids == ("GPU-aa",)
    assert pool.free == 1


async def test_outside_of_a_container_no_container_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    api, pool = FakeDaemon(), GpuPool((), is_settled=False)
    await settled(pool, settings(), api, monkeypatch, None)
    assert api.created == []
    with pytest.raises(JobMisconfigured, match="this runner has 0"):
        await pool.take(1)


async def test_what_nvml_found_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    api, pool = FakeDaemon(), GpuPool((A, B), is_settled=False)
    await settled(pool, settings("1"), api, monkeypatch, "own")
    assert (pool.gpus, api.created) == ((B,), [])


async def test_a_job_that_was_taken_up_again_keeps_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = GpuPool((), is_settled=False)
    allotment = pool.claim(("GPU-aa",))
    await settled(pool, settings(), FakeDaemon(), monkeypatch, "own")
    assert (await pool.take(1)).uuids == ("GPU-bb",)
    pool.give_back(allotment)
    assert (await pool.take(1)).uuids == ("GPU-aa",)
