"""Pruning: what is ours and unused goes, with and without the service; what is somebody else's never does."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.building.shelf import LABEL_BUILD, REPOSITORY
from nautilus_runner.executors.image_record import ImageRecord
from nautilus_runner.status import read_status
from nautilus_runner.testing.datahost import DataHost, Served
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunnerProcess, RunningAgent, settings_for
from nautilus_runner.testing.server import ProtocolServer

HERE = '\n[data]\nlocal_hosts = ["127.0.0.1"]\n'
SYSTEM = "org.nautilus.runner.system-id"


@pytest.fixture
async def host() -> AsyncIterator[DataHost]:
    async with DataHost() as running:
        running.files["/set"] = Served(b"s" * 500_000)
        yield running


async def prune(service: RunnerProcess, *options: str) -> dict[str, Any]:
    argv = [
        sys.executable,
        "-m",
        "nautilus_runner",
        "prune",
        "--config",
        str(service.config),
        "--json",
        *options,
    ]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wanting(url: str, *script: str) -> dict[str, Any]:
    cache = [{"key": "k", "paths": ["kept"], "policy": "pull-push", "when": "on_success"}]
    return job_payload(script, variables=[variable("NAUTILUS_INPUTS", url)], cache=cache)


async def test_prune_removes_what_no_job_uses_and_nothing_that_is_not_ours(
    server: ProtocolServer, service: RunnerProcess, host: DataHost, tmp_path: Path
) -> None:
    service.configure(server.url, tables=HERE)
    service.start()
    first = server.add_job(wanting(f"{host.url}/set", "head -c 100000 /dev/urandom > kept"))
    await server.finished(first)
    holder = server.add_job(
        job_payload(["echo begun", "sleep 120"], variables=[variable("NAUTILUS_INPUTS", f"{host.url}/set")])
    )
    await server.until(lambda: "\nbegun" in holder.log)

    foreign = service.data_dir / "cache" / "notes.txt"
    foreign.write_text("somebody's")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (service.data_dir / "cache" / "link").symlink_to(outside)

    dry = await prune(service, "--dry-run", "--all")
    assert [removal["kind"] for removal in dry["removals"]] == ["cache"]
    assert dry["total_bytes"] > 90_000
    assert list((service.data_dir / "cache").glob("*/*.zip"))

    said = await prune(service, "--all")
    assert [(removal["kind"], removal["why"]) for removal in said["removals"]] == [("cache", "asked")]
    assert not list((service.data_dir / "cache").glob("*/*.zip"))
    assert list((service.data_dir / "data" / "blobs").iterdir()), "a job uses it"
    server.cancel(holder, force=True)
    await service.kill()

    leftover = service.data_dir / "builds" / "00000000-99"
    leftover.mkdir(parents=True)
    (leftover / "link").symlink_to(outside)
    said = await prune(service, "--all")
    kinds = {removal["kind"]: removal["why"] for removal in said["removals"]}
    assert kinds["work-tree"] == "leftover"
    assert not leftover.exists()
    assert (outside / "precious").read_text() == "precious"
    assert foreign.read_text() == "somebody's"


async def test_below_the_reserve_no_job_is_taken_until_there_is_room(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    free_mib = os.statvfs(runner.data_dir).f_bavail * os.statvfs(runner.data_dir).f_frsize >> 20
    status = runner.data_dir / "status.json"
    job = server.add_job(job_payload(["echo ran"]))
    await runner.start(server.url, tables=f"\n[disk]\nreserve_mib = {free_mib + 100_000}\n")
    deadline = time.monotonic() + 60
    while "below the reserve" not in str((read_status(status) or {}).get("reason")):
        assert time.monotonic() < deadline, read_status(status)
        await asyncio.sleep(0.05)
    assert job.claims == 0
    assert runner.agent is not None
    await runner.agent.apply(settings_for(server.url, runner.data_dir))
    await server.finished(job)
    assert job.status == "success"


def make_image(
    daemon: docker.APIClient, name: str, content: str, tag: str = "latest", labels: Sequence[str] = ()
) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))
    changes = [f"LABEL {label}" for label in labels]
    daemon.import_image_from_data(buffer.getvalue(), repository=name, tag=tag, changes=changes)
    return str(daemon.inspect_image(f"{name}:{tag}")["Id"])


@pytest.mark.docker
async def test_of_images_containers_and_volumes_only_our_own_go(
    server: ProtocolServer, service: RunnerProcess, daemon: docker.APIClient
) -> None:
    mark = f"prune-{os.getpid()}-{time.monotonic_ns()}"
    names = {kind: f"{mark}-{kind}" for kind in ("ours", "used", "renamed", "foreign")}
    images = {kind: make_image(daemon, name, name) for kind, name in names.items()}
    daemon.tag(names["renamed"], f"{mark}-of-somebody", "latest")
    service.configure(
        server.url, executor="docker", docker={"pull_policy": ["never"]}, process={}, tables=HERE
    )
    record = ImageRecord(service.data_dir / "images.json")
    identity = daemon.info()["ID"]
    for kind in ("ours", "used", "renamed"):
        record.brought(identity, images[kind], names[kind])
    aged = json.loads((service.data_dir / "images.json").read_text())
    for entry in aged[identity].values():
        entry["used_at"] = 1.0
    (service.data_dir / "images.json").write_text(json.dumps(aged))
    (service.data_dir / "system_id").write_text("s_0123456789ab\n")
    key = f"{time.monotonic_ns():032x}"
    make_image(daemon, REPOSITORY, key, key, [f"{SYSTEM}=s_0123456789ab", f"{LABEL_BUILD}={key}"])
    (service.data_dir / "built-images").mkdir()
    (service.data_dir / "built-images" / key).touch()
    os.utime(service.data_dir / "built-images" / key, (1, 1))
    container = daemon.create_container(names["used"], command="x", name=f"{mark}-container")["Id"]
    foreign = daemon.create_volume(f"nautilus-{mark}")["Name"]
    other = daemon.create_volume(
        f"{mark}-other", labels={SYSTEM: "s_ffffffffffff", "org.nautilus.runner.job": "x"}
    )["Name"]
    orphan = daemon.create_volume(
        f"{mark}-orphan", labels={SYSTEM: "s_0123456789ab", "org.nautilus.runner.job": "gone-1"}
    )["Name"]
    try:
        said = await prune(service, "--all")
        assert sorted((removal["kind"], removal["name"]) for removal in said["removals"]) == [
            ("built-image", f"{REPOSITORY}:{key}"),
            ("container", "gone-1"),
            ("image", images["ours"]),
        ]
        left = {image["Id"] for image in daemon.images()}
        assert images["ours"] not in left
        assert {images["used"], images["renamed"], images["foreign"]} <= left
        volumes = {volume["Name"] for volume in daemon.volumes()["Volumes"]}
        assert {foreign, other} <= volumes and orphan not in volumes
    finally:
        daemon.remove_container(container, force=True)
        for name in (*names.values(), f"{mark}-of-somebody"):
            try:
                daemon.remove_image(name, force=True)
            except docker.errors.ImageNotFound:
                continue
        for name in (foreign, other):
            daemon.remove_volume(name)
