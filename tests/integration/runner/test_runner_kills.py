"""A kill is at once, whatever the job does: deaf to signals, or on its way with what it keeps."""

from __future__ import annotations

import asyncio
import time

from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunningAgent, processes_with
from nautilus_runner.testing.server import ProtocolServer

ARTIFACT = {"paths": ["a"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}


async def test_a_forced_cancel_does_not_wait_for_the_grace_of_the_one_before(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    script = "trap 'echo heard' TERM; echo begun; while :; do sleep 777.8 & wait; done"
    job = server.add_job(job_payload([script], after_script=["echo after"]))
    await runner.start(server.url, process={"user": "nobody", "grace_s": 60.0})
    await server.until(lambda: b"\nbegun\n" in job.trace)
    server.cancel(job)
    await server.until(lambda: b"heard" in job.trace)
    asked_at = time.monotonic()
    server.cancel(job, force=True)
    while processes_with("777.8"):
        assert time.monotonic() - asked_at < 30
        await asyncio.sleep(0.02)
    assert runner.agent is not None
    while not runner.agent.is_idle:
        assert time.monotonic() - asked_at < 30
        await asyncio.sleep(0.02)
    assert "\nafter\n" not in job.log


async def test_a_cancel_while_artifacts_are_on_their_way_waits_for_none_of_them(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    server.upload_statuses = [503] * 60
    job = server.add_job(job_payload(["echo x > a"], artifacts=[ARTIFACT]))
    await runner.start(server.url)
    await server.until(lambda: b"503" in job.trace)
    asked_at = time.monotonic()
    server.cancel(job)
    await server.finished(job)
    assert time.monotonic() - asked_at < 30
    assert job.status == "canceled" and not job.uploads
