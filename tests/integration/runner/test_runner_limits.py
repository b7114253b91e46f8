"""Limits of process jobs and what their end says, with jobs that really want too much.

The kernel keeps the limits where control groups can be made (as root here); each test says so where they can't.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.cgroup_tree import find_tree
from nautilus_runner.limits import Limits
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunnerProcess, RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

PYTHON = "/usr/bin/python3"
HOG = f'{PYTHON} -c "x = bytearray(300 << 20); print(len(x))"'


def has_limits() -> bool:
    group = find_tree().make("nautilus-test-probe")
    if group is None:
        return False
    missing = group.limit(Limits(cpus=1, memory_mib=100, pids=10))
    group.remove()
    return not missing


needs_groups = pytest.mark.skipif(
    os.geteuid() != 0 or not has_limits(), reason="needs control groups with limits, as root"
)


async def run_job(
    server: ProtocolServer, runner: RunningAgent, script: list[str], asks: dict[str, str], **options: Any
) -> ServedJob:
    variables = [variable(key, value) for key, value in asks.items()]
    after = options.pop("after_script", ())
    job = server.add_job(job_payload(script, variables=variables, after_script=after))
    await runner.start(server.url, **options)
    return await server.finished(job)


def gate_in(folder: Path) -> Path:
    """A pipe that a job reads: it goes on when a test writes to it."""
    gate = folder / "gate"
    os.mkfifo(gate)
    gate.chmod(0o644)
    return gate


def named(server: ProtocolServer, name: str, script: list[str]) -> ServedJob:
    payload = job_payload(script)
    payload["job_info"]["name"] = name
    return server.add_job(payload)


def last_line(job: ServedJob) -> str:
    return job.log.rstrip("\n").splitlines()[-1].partition("\x1b[31;1mERROR: ")[2].removesuffix("\x1b[0;m")


@needs_groups
async def test_a_job_that_wants_too_much_memory_is_told_its_peak_and_its_limit(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, [HOG], {"NAUTILUS_MEMORY": "64Mi"})
    assert last_line(job) == (
        "Job failed (out of memory): peak 64 MiB of the 64 MiB that the job may use; ask for more with "
        "NAUTILUS_MEMORY, or use less (exit code 137)"
    )
    assert job.finals[-1]["failure_reason"] == "script_failure"
    assert job.finals[-1]["exit_code"] == 137
    assert "memory peak 64 of 64 MiB" in job.log


@needs_groups
async def test_swap_and_shared_memory_are_no_way_around_the_limit(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    target = f"/dev/shm/nautilus-test-{os.getpid()}"
    script = [f"trap 'rm -f {target}' EXIT", f"head -c 300M /dev/zero > {target}", "sleep 20"]
    try:
        job = await run_job(server, runner, script, {"NAUTILUS_MEMORY": "64Mi"})
    finally:
        Path(target).unlink(missing_ok=True)
    assert "Job failed (out of memory)" in last_line(job)


async def test_a_job_that_kills_itself_is_not_called_out_of_memory(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, ["kill -9 $$"], {"NAUTILUS_MEMORY": "640Mi"})
    assert last_line(job) == "Job failed: exit code 137 (killed with SIGKILL, by no limit of this runner)"
    assert job.finals[-1]["exit_code"] == 137


@needs_groups
async def test_a_job_with_too_many_processes_is_told_so(server: ProtocolServer, runner: RunningAgent) -> None:
    code = "import os, time\nfor n in range(40):\n    if os.fork() == 0: time.sleep(20)"
    script = [f"{PYTHON} -c '{code}'"]
    job = await run_job(server, runner, script, {"NAUTILUS_PIDS": "16"})
    assert last_line(job).startswith(
        "Job failed (process limit): the job wanted more processes than 16 are allowed (NAUTILUS_PIDS)"
    )


async def test_a_job_that_fills_the_disk_is_ended_with_its_amount(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(
        server,
        runner,
        ["head -c 40M /dev/zero > big", "sleep 60"],
        {"NAUTILUS_DISK": "20Mi"},
        after_script=["echo never"],
    )
    assert last_line(job).startswith("Job failed (disk limit): the job holds "), job.log
    assert last_line(job).endswith("of the 20 MiB that it may on disk; ask for more with NAUTILUS_DISK")
    assert "never" not in job.log


async def test_without_control_groups_memory_is_watched(server: ProtocolServer, runner: RunningAgent) -> None:
    script = [f'{PYTHON} -c "import time; x = bytearray(300 << 20); time.sleep(20)"']
    process = {"user": "nobody", "grace_s": 1.0, "cgroup": False}
    job = await run_job(server, runner, script, {"NAUTILUS_MEMORY": "64Mi"}, process=process)
    assert "No control group for memory here: memory and processes are watched" in job.log
    assert "Job failed (out of memory): peak " in last_line(job)


async def test_a_kind_of_job_has_its_own_timeout(server: ProtocolServer, runner: RunningAgent) -> None:
    kinds = '\n[[kinds]]\nname = "learn"\nvariables = ["NAUTILUS_KIND=learn*"]\ntimeout_s = 0.4\n'
    job = await run_job(server, runner, ["sleep 20"], {"NAUTILUS_KIND": "learn-all"}, tables=kinds)
    assert last_line(job) == "Job failed: scripts of learn jobs may take 0.4 seconds on this runner"
    assert job.finals[-1]["failure_reason"] == "job_execution_timeout"


async def test_what_never_fits_fails_at_once_with_the_shortfall(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    capacity = "\n[capacity]\nmemory_mib = 512\ncpus = 2\n"
    asks = {"NAUTILUS_MEMORY": "4Gi", "NAUTILUS_CPUS": "3"}
    job = await run_job(server, runner, ["echo ran"], asks, tables=capacity)
    assert last_line(job) == (
        "Job failed (configuration): the job asks for 3 cpus, this runner has 2; "
        "the job asks for 4096 MiB of memory, this runner has 512 MiB"
    )
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"


async def test_what_does_not_fit_now_waits_and_says_for_what(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    capacity = "\n[capacity]\nmemory_mib = 512\n"
    asks = [variable("NAUTILUS_MEMORY", "400m")]
    gate = gate_in(data_dir)
    first = server.add_job(job_payload([f"cat {gate}"], variables=asks))
    second = server.add_job(job_payload(["echo second"], variables=asks))
    agent = await runner.start(server.url, tables=capacity)
    await server.until(lambda: "Waiting for 400 MiB of memory, free are 112 MiB." in second.log)
    jobs = {job["id"]: job for job in agent.status().as_json()["jobs"]}
    assert jobs[second.id]["waits_for"] == "waiting for 400 MiB of memory, free are 112 MiB"
    assert agent.status().as_json()["capacity"]["memory_mib"] == {"total": 512, "used": 400}
    await asyncio.to_thread(gate.write_text, "go")
    await server.finished(first)
    await server.finished(second)
    assert second.status == "success"
    assert "There is room now." in second.log


async def test_kinds_have_their_own_parallelism(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    kinds = '\n[[kinds]]\nname = "learn"\njobs = ["learn*"]\nlimit = 1\n[[kinds]]\nname = "predict"\n'
    gate = gate_in(data_dir)

    first = named(server, "learn 1", ["echo begun", f"cat {gate}"])
    await runner.start(server.url, concurrent=4, tables=kinds)
    await server.until(lambda: "\nbegun" in first.log)
    second, other = named(server, "learn 2", ["echo"]), named(server, "predict 1", ["echo"])
    await server.finished(other)
    await server.until(lambda: "place among learn jobs: 1 of 1 run" in second.log, 60)
    assert not first.is_over
    await asyncio.to_thread(gate.write_text, "go")
    await server.finished(second, 60)
    assert second.status == "success"


async def test_a_job_that_waits_for_its_kind_leaves_its_slot_to_others(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    kinds = '\n[[kinds]]\nname = "learn"\njobs = ["learn*"]\nlimit = 1\n'
    gate = gate_in(data_dir)

    first = named(server, "learn 1", ["echo begun", f"cat {gate}"])
    agent = await runner.start(server.url, concurrent=2, tables=kinds)
    await server.until(lambda: "\nbegun" in first.log)
    second = named(server, "learn 2", ["echo slot $CI_CONCURRENT_ID"])
    await server.until(lambda: "place among learn jobs" in second.log)
    others = [named(server, f"other {n}", ["echo slot $CI_CONCURRENT_ID"]) for n in (1, 2)]
    for other in others:  # both slots were held, were one held by who waits
        await server.finished(other)
        assert "\nslot 2" in other.log
    assert agent.status().as_json()["capacity"]["waiting"] == 1
    await asyncio.to_thread(gate.write_text, "go")
    await server.finished(second)
    assert "\nslot 1" in second.log
    assert agent.status().as_json()["capacity"]["waiting"] == 0


async def test_a_restarted_runner_knows_what_its_jobs_have(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    gate = gate_in(service.data_dir)
    asks = [variable("NAUTILUS_MEMORY", "300Mi"), variable("NAUTILUS_CPUS", "1")]
    job = server.add_job(job_payload([f"echo begun; cat {gate}; exit 3"], variables=asks))
    service.configure(server.url, tables="\n[capacity]\nmemory_mib = 512\n")
    service.start()
    await server.until(lambda: "begun" in job.log)
    await service.kill()
    (service.data_dir / "status.json").unlink()
    service.start()

    def memory() -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((service.data_dir / "status.json").read_text())["capacity"][
                "memory_mib"
            ]
        except OSError:
            return {}
        return found

    async with asyncio.timeout(30):
        while memory() != {"total": 512, "used": 300}:
            await asyncio.sleep(0.05)
    await asyncio.to_thread(gate.write_text, "go")
    await server.finished(job)
    assert last_line(job) == "Job failed: exit code 3"


@needs_groups
async def test_usage_of_a_known_load_is_in_the_status_and_the_log(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    gate = service.data_dir / "gate"
    load = (
        "import os, time; x = bytearray(150 << 20)\n"
        f'while not os.path.exists("{gate}"): pass\n'
        'print("self:", sum(os.times()[:2]))'
    )
    script = [f"{PYTHON} -c '{load}'"]
    job = server.add_job(job_payload(script, variables=[variable("NAUTILUS_CPUS", "0.5")]))
    service.configure(server.url)
    service.start()
    status = service.data_dir / "status.json"

    def usage() -> dict[str, Any]:
        try:
            jobs = json.loads(status.read_text())["jobs"]
        except OSError:
            return {}
        return jobs[0].get("usage", {}) if jobs else {}

    seen: list[dict[str, Any]] = []

    def is_loaded() -> bool:
        seen.append(usage())
        now = {name: value["now"] for name, value in seen[-1].items() if isinstance(value, dict)}
        return now.get("cpu_percent", 0) > 0 and now.get("memory_mib", 0) >= 150

    async with asyncio.timeout(30):
        while not is_loaded():
            await asyncio.sleep(0.05)
    gate.touch()
    await server.finished(job)
    assert job.status == "success", job.log
    assert 20 <= seen[-1]["cpu_percent"]["peak"] <= 75, seen[-1]
    assert 150 <= seen[-1]["memory_mib"]["now"] <= 200, seen[-1]
    told = float(job.log.split("self: ")[1].split()[0])
    used = next(line for line in job.log.splitlines() if "Used: " in line)
    cpu_s = float(used.split("CPU ")[1].split(" s")[0])
    assert told - 0.2 <= cpu_s <= told * 1.3 + 0.3, (told, used)


async def test_what_is_no_size_is_refused_with_an_example(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    job = await run_job(server, runner, ["true"], {"NAUTILUS_MEMORY": "lots"})
    assert "NAUTILUS_MEMORY='lots' is no size of 1 MiB or more; write it as 512Mi or 4Gi" in last_line(job)


@needs_groups
async def test_groups_that_nobody_knows_are_removed_and_those_of_other_runners_are_not(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    (data_dir / "system_id").write_text("s_0123456789ab\n")
    ours, theirs = find_tree("nautilus-6789ab").make("0a-1-0"), find_tree("nautilus-ffffff").make("0a-1-0")
    assert ours is not None and theirs is not None
    try:
        job = await run_job(server, runner, ["echo"], {})
        assert job.status == "success"
        assert not any(folder.exists() for folder in ours.folders)
        assert all(folder.exists() for folder in theirs.folders)
    finally:
        ours.remove()
        theirs.remove()
    await runner.stop()
    assert find_tree("nautilus-6789ab").left() == {}
