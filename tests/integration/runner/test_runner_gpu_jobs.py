"""Jobs with GPUs, the whole path: NVML's stand-in at the library's boundary, all else as it is."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.errors import SystemFailure
from nautilus_runner.executors import containers
from nautilus_runner.executors.gpu_monitor import monitor_config
from nautilus_runner.gpu import Allotment
from nautilus_runner.gpus import devices, keeper, neighbours
from nautilus_runner.gpus.locks import HostLocks
from nautilus_runner.settings import DockerSettings
from nautilus_runner.testing.nvml import FakeGpu, FakeNvml
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent, config_text
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "debian:trixie-slim"
SHOW = 'echo "sees=$CUDA_VISIBLE_DEVICES,$NVIDIA_VISIBLE_DEVICES share=$NAUTILUS_GPU_SHARE_MIB"'


class Machine:
    """A runner on a machine with the GPUs of a stand-in, and a self-test that meets an `nvidia-smi` of ours."""

    def __init__(self, runner: RunningAgent, nvml: FakeNvml, folder: Path) -> None:
        self.runner, self.nvml, self.folder = runner, nvml, folder
        self.smi = folder / "bin/nvidia-smi"
        self.smi.parent.mkdir()
        folder.chmod(0o755)
        self.answer(*(f"GPU 0: NVIDIA H200 (UUID: {gpu.uuid})" for gpu in nvml.gpus))

    def answer(self, *lines: str, status: int = 0) -> None:
        """What nvidia-smi says from now on."""
        said = "\n".join(lines)
        part = self.smi.with_suffix(".part")
        part.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit {status}\n")
        part.chmod(0o755)
        part.rename(self.smi)

    async def start(self, server: ProtocolServer, **options: Any) -> None:
        process = {"user": "nobody", "grace_s": 2.0, "path": [str(self.smi.parent)]}
        await self.runner.start(
            server.url, **{"process": process, "gpu_lock_dir": str(self.folder / "locks"), **options}
        )
        await self.until(lambda: self.states() and not any("tested" in reason for reason in self.reasons()))

    def states(self) -> list[str]:
        assert self.runner.agent is not None
        return [gpu["state"] for gpu in self.runner.agent.status().gpus]

    def reasons(self) -> list[str]:
        assert self.runner.agent is not None
        return [gpu["reason"] for gpu in self.runner.agent.status().gpus]

    async def until(self, is_so: Callable[[], Any], timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, self.states()
            await asyncio.sleep(0.02)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    made = FakeNvml([FakeGpu("GPU-aaaa"), FakeGpu("GPU-bbbb")])
    monkeypatch.setattr(keeper, "library", lambda: made)
    monkeypatch.setattr(keeper, "_WATCH_EVERY_S", 0.05)
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.2)
    return made


@pytest.fixture
def machine(runner: RunningAgent, nvml: FakeNvml, data_dir: Path) -> Machine:
    folder = data_dir / "machine"
    folder.mkdir()
    return Machine(runner, nvml, folder)


def asking(server: ProtocolServer, script: list[str], **wish: str) -> ServedJob:
    variables = [variable(f"NAUTILUS_GPU{name}", value) for name, value in wish.items()]
    return server.add_job(job_payload(script, variables=variables))


async def test_jobs_get_gpus_of_their_own_and_wait_for_them(server: ProtocolServer, machine: Machine) -> None:
    waits = ['while [ ! -e "$MARK" ]; do sleep 0.05; done', SHOW]
    mark = machine.folder / "go"
    await machine.start(server, concurrent=2)
    held = server.add_job(
        job_payload(waits, variables=[variable("NAUTILUS_GPUS", "GPU-aaaa"), variable("MARK", str(mark))])
    )
    await machine.until(lambda: machine.states() == ["busy", "free"])
    other = asking(server, [SHOW], S="1", _MODEL="h200", _MEMORY="140GB")
    await server.finished(other)
    assert "sees=GPU-bbbb,GPU-bbbb share=" in other.log and "GPUs of this job: GPU-bbbb" in other.log
    both = asking(server, [SHOW], S="2")
    await server.until(lambda: b"Waiting for 2 GPUs; 1 of 2 are free. GPU-aaaa: a job has it." in both.trace)
    assert not HostLocks(machine.folder / "locks").take("GPU-aaaa")
    without = server.add_job(job_payload(["echo needs none"]))
    await server.finished(without)  # who waits for GPUs holds no slot
    assert not both.is_over
    mark.touch()
    await server.finished(held)
    await server.finished(both)
    assert "sees=GPU-aaaa,GPU-aaaa" in held.log and "sees=GPU-aaaa,GPU-bbbb,GPU-aaaa,GPU-bbbb" in both.log
    await machine.until(lambda: machine.states() == ["free", "free"])
    assert HostLocks(machine.folder / "locks").take("GPU-aaaa")


async def test_a_shared_gpu_is_two_jobs_at_once(server: ProtocolServer, machine: Machine) -> None:
    mark = machine.folder / "go"
    script = ['while [ ! -e "$MARK" ]; do sleep 0.05; done', SHOW]
    given = [variable("NAUTILUS_GPU_SHARED", "40GiB"), variable("MARK", str(mark))]
    await machine.start(server)
    jobs = [server.add_job(job_payload(script, variables=given)) for _ in range(2)]
    await machine.until(lambda: machine.reasons() == ["2 jobs use 81920 MiB of it", ""])
    assert machine.states() == ["shared", "free"]
    mark.touch()
    for job in jobs:
        await server.finished(job)
        assert "sees=GPU-aaaa,GPU-aaaa share=40960" in job.log


async def test_a_lost_gpu_fails_its_job_as_ours_and_comes_back_when_it_passes_its_test(
    server: ProtocolServer, machine: Machine, nvml: FakeNvml
) -> None:
    await machine.start(server, concurrent=3)
    lost = asking(server, ["echo begun", "sleep 60"], S="GPU-aaaa")
    other = asking(server, ["echo begun", "sleep 1", "echo went on"], S="1")
    await server.until(lambda: b"begun" in lost.trace and b"begun" in other.trace)
    nvml.gpus[0].is_broken = True
    machine.answer("Unable to determine the device handle for GPU 0: GPU is lost.", status=15)
    await server.finished(lost)
    assert lost.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "the job's GPU GPU-aaaa is lost: the driver says: GPU is lost" in lost.log
    await server.finished(other)
    assert other.status == "success" and "went on" in other.log
    assert machine.runner.agent is not None
    shown = machine.runner.agent.status().gpus[0]
    assert shown["state"] == "aside" and shown["reason"]
    again = asking(server, [SHOW], S="2")
    await server.finished(again)
    assert again.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "are set aside: GPU-aaaa: " in again.log
    nvml.gpus[0].is_broken = False
    machine.answer("GPU 0: NVIDIA H200 (UUID: GPU-aaaa)")
    await machine.until(lambda: machine.states() == ["free", "free"])


async def test_a_gpu_that_fails_its_test_at_the_beginning_is_no_jobs(
    server: ProtocolServer, machine: Machine
) -> None:
    machine.answer("GPU 1: NVIDIA H200 (UUID: GPU-bbbb)")
    await machine.start(server)
    job = asking(server, [SHOW], S="1")
    await server.finished(job)
    assert "sees=GPU-bbbb" in job.log
    assert machine.runner.agent is not None
    shown = machine.runner.agent.status().gpus[0]
    assert shown["reason"] == "failed its self-test: nvidia-smi does not see it"
    await machine.runner.stop()
    assert not list((machine.runner.data_dir / "selftest").iterdir())


async def test_a_supervisor_holds_its_jobs_gpu_while_the_runner_is_away_and_the_script_has_no_part_in_it(
    server: ProtocolServer, machine: Machine
) -> None:
    await machine.start(server)
    job = asking(server, ["ls -l /proc/self/fd/", "echo begun", "sleep 60"], S="GPU-aaaa")
    await server.until(lambda: b"begun" in job.trace)
    assert "locks/GPU-aaaa" not in job.log
    before = machine.runner.agent
    assert before is not None
    await before.detach()
    before._machine.gpus.locks.drop(["GPU-aaaa"])  # as its death does
    assert not HostLocks(machine.folder / "locks").take("GPU-aaaa")
    await machine.start(server)
    other = asking(server, [SHOW], S="1")
    await server.finished(other)
    assert "sees=GPU-bbbb" in other.log
    server.cancel(job)
    await server.finished(job)
    await machine.until(lambda: machine.states() == ["free", "free"])


# ---- containers


@pytest.mark.docker
def test_a_container_is_created_with_its_gpus_alone_and_other_runners_give_way(
    daemon: docker.APIClient,
) -> None:
    made: list[str] = []

    def create(system_id: str, *uuids: str, **options: Any) -> str:
        settings = DockerSettings(image=IMAGE, **options)
        config = containers.container_config(
            IMAGE,
            host=containers.host_config(
                settings, network="none", gpus=uuids, gpu_capabilities=["compute", "video"]
            ),
            environment=Allotment(uuids).environment(),
            labels=containers.labels(system_id, f"{system_id}-1", "job") | neighbours.labels(uuids),
            command=["sleep", "60"],
            entrypoint=None,
        )
        made.append(daemon.create_container_from_config(config)["Id"])
        return made[-1]

    try:
        first = create("s_one", "GPU-test-aa", "GPU-test-bb")
        found = daemon.inspect_container(first)
        [request] = found["HostConfig"]["DeviceRequests"]
        assert request["DeviceIDs"] == ["GPU-test-aa", "GPU-test-bb"] and request["Count"] == 0
        assert request["Capabilities"] == [["gpu", "compute", "video"]]
        assert "NVIDIA_VISIBLE_DEVICES=GPU-test-aa,GPU-test-bb" in found["Config"]["Env"]
        neighbours.give_way(daemon, "s_one", first, ["GPU-test-aa"])

        second = create("s_two", "GPU-test-bb")
        with pytest.raises(SystemFailure, match="gave out GPU-test-bb"):
            neighbours.give_way(daemon, "s_two", second, ["GPU-test-bb"])
        assert neighbours.taken_by_others(daemon, "s_two") >= {"GPU-test-aa", "GPU-test-bb"}
        neighbours.give_way(daemon, "s_three", create("s_three", "GPU-test-cc"), ["GPU-test-cc"])

        made.append(daemon.create_container_from_config(monitor_config(IMAGE, "s_test"))["Id"])
        assert daemon.inspect_container(made[-1])["Path"] == "timeout"
        none = daemon.inspect_container(create("s_one"))
        assert (
            not none["HostConfig"]["DeviceRequests"]
            and "NVIDIA_VISIBLE_DEVICES=void" in none["Config"]["Env"]
        )
        with pytest.raises(docker.errors.APIError, match="Unknown runtime specified nvidia-test"):
            create("s_one", "GPU-test-dd", runtime="nvidia-test")
    finally:
        for name in made:
            daemon.remove_container(name, force=True)


@pytest.mark.docker
async def test_without_nvidias_toolkit_gpus_are_set_aside_and_say_so(
    server: ProtocolServer, machine: Machine, daemon: docker.APIClient
) -> None:
    if "nvidia" in daemon.info().get("Runtimes", {}):
        pytest.skip("this daemon has NVIDIA's toolkit")
    await machine.start(
        server, executor="docker", docker={"image": IMAGE, "pull_policy": ["never"]}, process={}
    )
    job = asking(server, [SHOW], S="1")
    plain = asking(server, [SHOW])
    await server.finished(job, 60)
    await server.finished(plain, 60)
    assert job.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "could not select device driver" in job.log
    assert "sees=,void" in plain.log


@pytest.mark.docker
async def test_a_container_whose_device_rules_were_written_anew_is_noticed(daemon: docker.APIClient) -> None:
    allowed = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nvidiactl", "CgroupPermissions": "rwm"}
    host = {"NetworkMode": "none", "Devices": [allowed]}
    config = containers.container_config(
        IMAGE, host=host, environment={}, labels={}, command=["sleep", "60"], entrypoint=None
    )
    made = daemon.create_container_from_config(config)["Id"]
    try:
        daemon.start(made)
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        looking = asyncio.create_task(devices.lost_before(over, daemon, made, 0.2))
        await asyncio.sleep(1)
        assert not looking.done()
        # a device that is there and that the container's control group does not let it open
        mknod = daemon.exec_create(made, ["mknod", "/dev/nvidia0", "c", "195", "0"])
        daemon.exec_start(mknod["Id"])
        async with asyncio.timeout(20):
            assert "lost its GPU" in await looking
    finally:
        daemon.remove_container(made, force=True)


async def test_the_self_test_tells_what_is_not_well(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    async def selftest(*options: str) -> tuple[int | None, dict[str, Any]]:
        argv = [
            sys.executable,
            "-m",
            "nautilus_runner",
            "selftest",
            "--json",
            "--config",
            str(config),
            *options,
        ]
        done = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        output, _ = await done.communicate()
        return done.returncode, json.loads(output) if output else {}

    config = data_dir / "config.toml"
    config.write_text(config_text(server.url, data_dir))
    status, found = await selftest()
    assert status == 0 and found["is_ok"] and found["gpus"] == []
    assert [one["name"] for one in found["checks"]] == ["git", "disk", f"server {server.url}", "process job"]
    assert not list((data_dir / "selftest").iterdir())
    config.write_text(config_text("http://127.0.0.1:9", data_dir))
    status, found = await selftest()
    wrong = {one["name"]: one["detail"] for one in found["checks"] if not one["is_ok"]}
    assert status == 1 and set(wrong) == {"server http://127.0.0.1:9", "process job"}
    assert "http://127.0.0.1:9 can't be reached from a job" in wrong["process job"]
    assert await selftest("--gpu", "GPU-none") == (1, {})
