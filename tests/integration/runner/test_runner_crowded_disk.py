"""A real disk that is full under the runner's own files: what costs its job costs no other, and it recovers."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nautilus_runner.control_socket import ask_once
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.machines import small_disk
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunnerProcess
from nautilus_runner.testing.server import ProtocolServer

pytestmark = [
    pytest.mark.drill,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="needs e2fsprogs"),
]
_SIZE_MIB = 48
MIB = 1 << 20


@pytest.fixture
async def crowded(server: ProtocolServer, data_dir: Path) -> AsyncIterator[RunnerProcess]:
    """A runner with all that it keeps on a disk of 48 MiB, 4 of them its reserve."""
    server.hold_s = 1.0  # the disk is looked at before each request
    with small_disk(data_dir / "disk.img", data_dir / "disk", _SIZE_MIB) as disk:
        disk.chmod(0o711)
        running = RunnerProcess(disk)
        running.configure(server.url)
        with running.config.open("a") as config:
            config.write("\n[disk]\nreserve_mib = 4\n")
        running.start()
        yield running
        await running.end()
        print(running.log()[-3000:])


def fill(disk: Path) -> Path:
    """Take all that is free."""
    path = disk / "somebody-elses"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return path


async def reason(service: RunnerProcess, words: str) -> None:
    """Until its status says so; a full disk keeps the file from being written, so it is asked."""
    async with asyncio.timeout(60):
        while words not in (await asyncio.to_thread(ask_once, service.config, "status"))["reason"]:
            await asyncio.sleep(0.1)


async def nothing_at_work(service: RunnerProcess) -> None:
    """Until jobs that have been reported have also left the disk."""
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(ask_once, service.config, "status"))["jobs"]:
            await asyncio.sleep(0.1)


async def test_a_job_that_fills_the_disk_ends_and_says_so_and_the_next_one_runs(
    server: ProtocolServer, crowded: RunnerProcess
) -> None:
    greedy = server.add_job(job_payload(["head -c 100000000 /dev/zero > big", "echo not to be reached"]))
    await server.finished(greedy)
    assert greedy.status == "failed"
    assert "No space left on device" in greedy.log
    assert "\nnot to be reached\n" not in greedy.log
    after = server.add_job(job_payload(["echo fine"]))
    assert (await server.finished(after)).status == "success"


async def test_a_log_that_fills_the_disk_costs_its_job_and_no_other(
    server: ProtocolServer, crowded: RunnerProcess
) -> None:
    chatty = server.add_job(job_payload(["head -c 100000000 /dev/zero | tr '\\0' x; echo"]))
    await server.finished(chatty)
    after = server.add_job(job_payload(["echo fine"]))
    await server.finished(after)
    assert after.status == "success"
    assert "\nfine\n" in after.log


async def test_for_the_reserve_go_lfs_objects_and_mirrors_then_checkpoints_that_nobody_waits_for(
    server: ProtocolServer, crowded: RunnerProcess, repository: Repository
) -> None:
    disk = crowded.data_dir
    sha = repository.commit({"large": os.urandom(6 * MIB)})
    repository.point("refs/pipelines/7", sha)
    fetched = server.add_job(job_payload(["test -s large"], url=server.url, sha=sha))
    assert (await server.finished(fetched)).status == "success"
    [mirror] = (disk / "mirrors").glob("*.git")
    oid = hashlib.sha256(b"object").hexdigest()
    lfs_object = disk / "lfs" / oid[:2] / oid[2:4] / oid
    lfs_object.parent.mkdir(parents=True)
    lfs_object.write_bytes(bytes(2 * MIB))
    os.utime(lfs_object, (time.time() - 3600,) * 2)
    save = "mkdir -p $NAUTILUS_CHECKPOINT_DIR; head -c 3000000 /dev/urandom > $NAUTILUS_CHECKPOINT_DIR/model; exit 1"
    checkpoints = {}
    for name in ("old", "fresh"):
        series = [variable("NAUTILUS_CHECKPOINT_KEY", name)]
        await server.finished(job := server.add_job(job_payload([save], variables=series)))
        [checkpoints[name]] = (disk / "checkpoints").glob(f"*/{job.id}.zip")
    os.utime(checkpoints["old"], (time.time() - 3 * 86400,) * 2)
    await nothing_at_work(crowded)

    async def squeeze(lacking_mib: int, gone: Callable[[], bool]) -> None:
        """Until so much less than the reserve is free, then until the runner has made room."""
        free = os.statvfs(disk)
        size = free.f_bavail * free.f_frsize - (4 - lacking_mib) * MIB
        with (disk / f"somebody-elses-{size}").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        async with asyncio.timeout(30):
            while not gone():
                await asyncio.sleep(0.1)

    await squeeze(3, lambda: not lfs_object.exists() and not mirror.exists())
    assert checkpoints["old"].exists() and checkpoints["fresh"].exists()
    await squeeze(3, lambda: not checkpoints["old"].exists())
    assert checkpoints["fresh"].exists(), "its job may still be tried again"
    assert len(list(disk.glob("somebody-elses-*"))) == 2


async def test_a_disk_that_is_full_already_takes_no_job_and_says_so_until_there_is_room(
    server: ProtocolServer, crowded: RunnerProcess
) -> None:
    first = server.add_job(job_payload(["echo fine"]))
    assert (await server.finished(first)).status == "success"
    filling = fill(crowded.data_dir)
    await reason(crowded, "below the reserve")
    waiting = server.add_job(job_payload(["echo fine"]))
    with pytest.raises(TimeoutError):
        await server.until(lambda: waiting.claims > 0, 3.0)
    filling.unlink()
    assert (await server.finished(waiting)).status == "success"
