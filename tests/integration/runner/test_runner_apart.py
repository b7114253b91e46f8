"""Jobs in containers are apart: what one tries against the machine, the runner and another job, on a real daemon."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import RUNNER_TOKEN, ProtocolServer

IMAGE = "debian:trixie-slim"
OPTIONS: dict[str, Any] = {
    "executor": "docker",
    "docker": {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0, "shm_mib": 64},
    "process": {},
}
pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("daemon")]


class Witness:
    """Inspects every container that a runner makes, from the daemon's own account of what it made."""

    def __init__(self, api: docker.APIClient, system_id: str) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self._api = api
        self._events = api.events(
            decode=True, filters={"label": f"org.nautilus.runner.system-id={system_id}", "event": "create"}
        )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        for event in self._events:
            try:
                self.seen[event["id"]] = self._api.inspect_container(event["id"])
            except docker.errors.NotFound:
                continue

    def close(self) -> None:
        self._events.close()

    def of(self, role: str) -> list[dict[str, Any]]:
        label = "org.nautilus.runner.role"
        return [found for found in self.seen.values() if found["Config"]["Labels"].get(label) == role]


async def test_no_container_of_a_run_has_a_mount_or_a_right_that_is_not_its_own(
    server: ProtocolServer,
    runner: RunningAgent,
    repository: Repository,
    daemon: docker.APIClient,
    tmp_path: Path,
) -> None:
    sets = Path("/srv") / f"nautilus-test-{tmp_path.name}"
    sets.mkdir(parents=True)
    (sets / "data").write_text("shared")
    try:
        docker_options = {**OPTIONS["docker"], "volumes": [f"{sets}:/sets"]}
        agent = await runner.start(
            server.url, **{**OPTIONS, "docker": docker_options, "reachable": ["far:9"]}
        )
        witness = Witness(daemon, agent._machine.system_id)
        sha = repository.commit({"Dockerfile": f"FROM {IMAGE}\nLABEL x={time.time()}\n"})
        repository.point("refs/pipelines/7", sha)
        tried = [
            "ls /var/run/docker.sock",
            "echo x > /sets/data",
            "mount -t tmpfs none /mnt",
            "cat /dev/sda",
            "ls /dev/nvidia0",
        ]
        script = [f"if {command} 2>/dev/null >&2; then echo got; else echo refused; fi" for command in tried]
        script += [
            "cat /sets/data",
            "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status",
            "env",
        ]
        service = {"name": IMAGE, "alias": "db", "command": ["sleep", "600"]}
        for mode in ("full", "internal", "none"):
            given = [variable("NAUTILUS_NETWORK", mode), variable("NAUTILUS_BUILD_DOCKERFILE", "Dockerfile")]
            payload = job_payload(script, url=server.url, sha=sha, variables=given, services=[service])
            job = await server.finished(server.add_job(payload), 90)
            assert job.status == "success", job.log
            assert job.log.count("\nrefused\n") == len(tried) and "\ngot\n" not in job.log, job.log
            assert "\nshared" in job.log and "NoNewPrivs:\t1" in job.log and RUNNER_TOKEN not in job.log
        await runner.stop()
        witness.close()
        assert len(witness.of("job")) == 3 and len(witness.of("service")) == 3
        assert witness.of("forwarder") and witness.of("guard")
        for found in witness.seen.values():
            host = found["HostConfig"]
            role = found["Config"]["Labels"].get("org.nautilus.runner.role", "build step")
            mounts = {(m["Type"], m["Destination"], m["RW"]) for m in found["Mounts"]}
            own = {("volume", "/builds", True), ("bind", "/sets", False)}
            if role == "carrier":  # it takes files into the job's volume before the job is there
                own = {("volume", "/builds", True)}
            assert mounts == (own if role in ("job", "carrier") else set()), (role, mounts)
            assert host["Privileged"] is False and not host["Devices"] and not host["DeviceRequests"]
            assert host["PidMode"] == host["UTSMode"] == "" and host["IpcMode"] in ("private", "")
            assert (host["NetworkMode"] == "host") == (role == "guard")
            assert (host["CapAdd"] or []) == (["NET_ADMIN"] if role == "guard" else [])
            # the daemon's builder makes build steps, without a word of ours; a carrier is never started
            if role not in ("build step", "carrier"):
                assert host["SecurityOpt"] == ["no-new-privileges"]
                assert {"NET_RAW", "MKNOD"} <= set(host["CapDrop"]) or host["CapDrop"] == ["ALL"]
        volumes = [m["Name"] for found in witness.of("job") for m in found["Mounts"] if m["Type"] == "volume"]
        assert len(set(volumes)) == 3
    finally:
        (sets / "data").unlink()
        sets.rmdir()
