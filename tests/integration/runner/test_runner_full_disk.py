"""A disk that fills up while inputs are fetched: that job fails with the numbers, the runner goes on."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nautilus_runner.testing.datahost import DataHost, Served
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

MIB = 1 << 20
pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """About 24 MiB, of its own file system."""
    with tempfile.TemporaryDirectory(prefix="nautilus-disk-", dir="/tmp") as folder:
        image, point = Path(folder, "image"), Path(folder, "disk")
        Path(folder).chmod(0o711)
        point.mkdir()
        image.write_bytes(b"")
        os.truncate(image, 32 * MIB)
        try:
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no loop device here: {error}")
        point.chmod(0o711)
        try:
            yield point
        finally:
            subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
async def host() -> AsyncIterator[DataHost]:
    async with DataHost() as running:
        yield running


def wanting(url: str, *script: str) -> dict:
    return job_payload(script, variables=[variable("NAUTILUS_INPUTS", url)])


async def test_a_disk_that_fills_up_fails_the_job_with_numbers_and_recovers(
    server: ProtocolServer, host: DataHost, small_disk: Path
) -> None:
    host.files["/small"] = Served(b"s" * 3 * MIB)
    host.files["/large"] = Served(b"l" * 60 * MIB)
    host.files["/endless"] = Served(b"e" * 60 * MIB, has_length=False)
    runner = RunningAgent(small_disk)
    tables = '\n[data]\nlocal_hosts = ["127.0.0.1"]\n[disk]\nreserve_mib = 4\n'

    async def run(path: str, *script: str) -> ServedJob:
        job = server.add_job(wanting(f"{host.url}{path}", *script))
        if runner.agent is None:
            await runner.start(server.url, tables=tables)
        return await server.finished(job)

    try:
        kept = await run("/small", "wc -c < small")
        assert kept.status == "success", kept.log
        refused = await run("/large", "true")
        assert "more do not fit on the disk" in refused.log and "4.0 MiB kept free" in refused.log
        assert refused.finals[-1]["failure_reason"] == "runner_system_failure"
        assert host.sent < 10 * MIB, "what can't fit is not begun"
        burst = await run("/endless", "true")
        assert "do not fit on the disk" in burst.log or "the disk is full" in burst.log
        partial = [path for path in (small_disk / "data" / "partial").iterdir() if path.suffix != ".json"]
        assert not partial, "what can never be whole does not hold the disk"
        again = await run("/small", "wc -c < small")
        assert again.status == "success", again.log
        assert runner.agent is not None and runner.agent.is_idle is not None
    finally:
        await runner.stop()
