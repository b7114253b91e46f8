"""Limits of jobs in containers of a real daemon: what is really too much, what it says, what `docker stats` tells."""

from __future__ import annotations

import asyncio
from typing import Any

import docker
import pytest

from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "debian:trixie-slim"
OPTIONS: dict[str, Any] = {
    "executor": "docker",
    "concurrent": 6,
    "docker": {"image": IMAGE, "pull_policy": ["never"], "grace_s": 1.0},
    "process": {},
}
pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("daemon")]


def last_line(job: ServedJob) -> str:
    return job.log.rstrip("\n").splitlines()[-1].partition("\x1b[31;1mERROR: ")[2].removesuffix("\x1b[0;m")


async def test_each_limit_is_kept_and_named(server: ProtocolServer, runner: RunningAgent) -> None:
    def add(script: list[str], **asks: str) -> ServedJob:
        variables = [variable(f"NAUTILUS_{key.upper()}", value) for key, value in asks.items()]
        return server.add_job(job_payload(script, variables=variables))

    memory = add(["tail /dev/zero"], memory="64Mi")
    killed = add(["kill -9 $$"], memory="64Mi")
    pids = add(["sh -c 'for i in $(seq 60); do sleep 20 & done; wait'"], pids="20")
    disk = add(["head -c 60M /dev/zero > big", "head -c 60M /dev/zero > /tmp/big", "sleep 60"], disk="100Mi")
    shm = add(["head -c 40M /dev/zero > /dev/shm/big"], shm="16Mi")
    roomy = add(["head -c 90M /dev/zero > /dev/shm/big"], shm="100Mi")
    await runner.start(server.url, **OPTIONS)
    for job in (memory, killed, pids, disk, shm, roomy):
        await server.finished(job, 60)

    assert last_line(memory) == (
        "Job failed (out of memory): peak 64 MiB of the 64 MiB that the job may use; ask for more with "
        "NAUTILUS_MEMORY, or use less (exit code 137)"
    )
    assert last_line(killed).startswith("Job failed: exit code 137 (killed with SIGKILL, by no limit")
    assert "Cannot fork" in pids.log and pids.finals[-1]["failure_reason"] == "script_failure"
    assert last_line(disk).startswith("Job failed (disk limit): the job holds 1")
    assert "No space left on device" in shm.log and last_line(shm) == "Job failed: exit code 1"
    assert roomy.status == "success", roomy.log


async def test_usage_is_told_and_the_daemon_has_the_limits(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    asks = {"NAUTILUS_CPUS": "0.5", "NAUTILUS_MEMORY": "256Mi", "NAUTILUS_SHM": "80Mi", "NAUTILUS_PIDS": "50"}
    service = {"name": IMAGE, "alias": "beside", "command": ["sleep", "60"], "entrypoint": []}
    script = ["head -c 50M /dev/zero > /dev/shm/held", "while ! test -e /tmp/enough; do :; done"]
    variables = [variable(key, value) for key, value in asks.items()]
    job = server.add_job(job_payload(script, variables=variables, services=[service]))
    agent = await runner.start(server.url, **OPTIONS)

    def usage() -> dict[str, Any]:
        jobs = agent.status().as_json()["jobs"]
        return jobs[0].get("usage", {}) if jobs else {}

    async with asyncio.timeout(40):
        while usage().get("cpu_percent", {}).get("now", 0) == 0 or "disk_mib" not in usage():
            await asyncio.sleep(0.1)
    seen = usage()
    label = {"label": f"org.nautilus.runner.job={agent_key(daemon, job)}"}
    hosts = [daemon.inspect_container(c["Id"])["HostConfig"] for c in daemon.containers(filters=label)]
    container = next(c for c in daemon.containers(filters=label) if "service" not in c["Names"][0])
    made = daemon.exec_create(container["Id"], ["touch", "/tmp/enough"])
    daemon.exec_start(made["Id"])
    await server.finished(job, 60)

    assert 25 <= seen["cpu_percent"]["peak"] <= 75, seen
    assert 50 <= seen["memory_mib"]["peak"] <= 80, seen
    assert seen["network_received_mib"]["now"] >= 0 and seen["pids"]["now"] >= 2, seen
    assert len(hosts) == 2
    for host in hosts:  # the service is bounded like the job
        assert (host["Memory"], host["MemorySwap"]) == (256 << 20, 256 << 20)
        assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (500_000_000, 50, 80 << 20)
    assert job.status == "success", job.log
    assert "of 0.5 cpus); memory peak" in job.log


def agent_key(daemon: docker.APIClient, job: ServedJob) -> str:
    label = "org.nautilus.runner.job"
    found = [c["Labels"][label] for c in daemon.containers(filters={"label": label})]
    return next(key for key in found if key.endswith(f"-{job.id}"))
