"""The log on its way to a server that is away for a moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from nautilus_runner.asking import patience_s
from nautilus_runner.client import Coordinator, JobAnswer
from nautilus_runner.errors import DiskFull, UnavailableError
from nautilus_runner.trace import courier as couriers
from nautilus_runner.trace.courier import Courier
from nautilus_runner.trace.spool import Spool


class Server:
    """Takes the log after it was away for `misses` calls."""

    def __init__(self, misses: int) -> None:
        self.misses = misses
        self.log = b""
        self.has_all = asyncio.Event()

    async def patch_trace(self, job_id: int, token: str, offset: int, data: bytes) -> JobAnswer:
        if self.misses:
            self.misses -= 1
            raise UnavailableError("no answer")
        self.log = self.log[:offset] + data
        self.has_all.set()
        return JobAnswer(202, "running", 1.0, len(self.log))

    async def touch(self, job_id: int, token: str, hold_s: float = 0.0) -> JobAnswer:
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_did_not_arrive_is_sent_again_while_the_job_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(couriers, "LIVE_INTERVAL_S", 0.0)
    monkeypatch.setattr(couriers, "MAX_WAIT_S", 0.01)
    server, spool = Server(misses=2), Spool(tmp_path / "trace")
    courier = Courier(cast(Coordinator, server), 1, "t", spool, lambda verdict, answer: None)
    sending = asyncio.create_task(courier.run())
    spool.append(b"the last words for hours\n")
    await asyncio.wait_for(server.has_all.wait(), 10)
    assert server.log == b"the last words for hours\n"
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    spool.close()


def test_a_machine_that_can_take_no_job_looks_again_each_second_and_a_server_that_is_away_less_often() -> (
    None
):
    assert patience_s(1, UnavailableError("away")) == patience_s(1, DiskFull("disk")) == 0.2
    assert patience_s(100, DiskFull("disk")) == 1.0
    assert patience_s(100, UnavailableError("away")) > 10
