"""Inputs in containers: exactly what a job named, read-only even for root, on this daemon and on one elsewhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.executors import data_mounts
from nautilus_runner.executors.data_mounts import DataMounts, candidates
from nautilus_runner.testing.datahost import DataHost, Served
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, printed

IMAGE = "debian:trixie-slim"
OPTIONS: dict[str, Any] = {
    "executor": "docker",
    "docker": {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0},
    "process": {},
    "tables": '\n[data]\nlocal_hosts = ["127.0.0.1"]\n',
}
SYSTEM = "org.nautilus.runner.system-id"


@pytest.fixture
async def host() -> AsyncIterator[DataHost]:
    async with DataHost() as running:
        running.files["/a.bin"] = Served(secrets.token_bytes(2_000_000))
        running.files["/b.txt"] = Served(b"of somebody else")
        yield running


def job_wanting(url: str, *script: str) -> dict[str, Any]:
    wish = json.dumps({"url": url, "path": "data/set"})
    return job_payload(script, variables=[variable("NAUTILUS_INPUTS", wish, raw=True)])


SCRIPT = (
    "wc -c < data/set",
    "(echo x >> data/set) 2>&1 | grep -c 'Read-only' || true",
    "rm -f $(readlink -f data/set) 2>&1 | grep -c 'Read-only' || true",
    "ls /nautilus/inputs | wc -l",
    "grep -c ' /nautilus/' /proc/mounts",
)
EXPECTED = ["2000000", "1", "1", "1", "1"]


@pytest.mark.docker
async def test_containers_share_inputs_read_only_bound_or_in_a_volume(
    server: ProtocolServer,
    runner: RunningAgent,
    host: DataHost,
    daemon: docker.APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = server.add_job(job_wanting(f"{host.url}/b.txt", "cat data/set"))
    job = server.add_job(job_wanting(f"{host.url}/a.bin", *SCRIPT))
    agent = await runner.start(server.url, **OPTIONS)
    await server.finished(job, 60)
    await server.finished(other, 60)
    assert printed(job) == EXPECTED, job.log
    assert printed(other) == ["of somebody else"], other.log
    own = {"label": [f"{SYSTEM}={agent._machine.system_id}", "org.nautilus.runner.role=data"]}
    assert not daemon.volumes(filters=own)["Volumes"], "bound, not copied"

    # a daemon that sees another disk than we do
    monkeypatch.setattr(DataMounts, "_sees", lambda *_: False)
    await runner.stop()
    agent = await runner.start(server.url, **OPTIONS)
    try:
        for _ in range(2):
            again = server.add_job(job_wanting(f"{host.url}/a.bin", *SCRIPT))
            await server.finished(again, 60)
            assert printed(again) == EXPECTED, again.log
        [volume] = daemon.volumes(filters=own)["Volumes"]
        assert volume["Labels"] == {SYSTEM: agent._machine.system_id, "org.nautilus.runner.role": "data"}
        assert host.downloads_of("/a.bin") == 1
    finally:
        await runner.stop()
        for volume in daemon.volumes(filters=own)["Volumes"] or []:
            daemon.remove_volume(volume["Name"], force=True)


def test_a_runner_in_a_container_is_known_to_the_daemon_by_the_hosts_path() -> None:
    own = [("/var/lib/nautilus-runner", "/var/lib/docker/volumes/r/_data"), ("/", "/overlay")]
    root = Path("/var/lib/nautilus-runner/data")
    assert candidates(root, own) == [
        "/var/lib/docker/volumes/r/_data/data",
        "/overlay/var/lib/nautilus-runner/data",
        "/var/lib/nautilus-runner/data",
    ]
    assert candidates(Path("/srv/data"), [("/var", "/x")]) == ["/srv/data"]


def test_a_bind_names_exactly_one_folder_and_never_makes_it() -> None:
    assert data_mounts.bind("/d/blobs/ab", "/nautilus/inputs/ab") == {
        "Type": "bind",
        "Source": "/d/blobs/ab",
        "Target": "/nautilus/inputs/ab",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
