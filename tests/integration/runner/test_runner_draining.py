"""Draining, and the socket by which commands speak with the service."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys

import pytest

from nautilus_runner.control_socket import NAME, ask_once
from nautilus_runner.errors import ControlRefused, NotRunning
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunnerProcess
from nautilus_runner.testing.server import ProtocolServer


async def asked(service: RunnerProcess, verb: str, **fields: object) -> dict:
    return await asyncio.to_thread(ask_once, service.config, verb, **fields)


async def command(service: RunnerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "nautilus_runner", *words, "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=60,
    )


async def listening(service: RunnerProcess) -> dict:
    """Its status, once it answers."""
    async with asyncio.timeout(15):
        while True:
            try:
                return await asked(service, "status")
            except NotRunning:
                await asyncio.sleep(0.02)


async def test_only_its_own_user_may_speak_with_the_service(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    await listening(service)
    assert stat.S_IMODE((service.data_dir / NAME).stat().st_mode) == 0o600
    assert (await asked(service, "status"))["pid"] == service.process.pid  # type: ignore[union-attr]
    with pytest.raises(ControlRefused, match="does not know 'dance'"):
        await asked(service, "dance")


async def test_without_a_service_a_command_says_so(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    with pytest.raises(NotRunning, match="no runner is running"):
        await asked(service, "status")
    said = await command(service, "drain")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1


async def test_a_drained_machine_ends_its_jobs_and_takes_none_until_told_also_after_a_restart(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    go = service.data_dir / "go"
    running = server.add_job(job_payload(script=["echo begun", f"while [ ! -e {go} ]; do sleep 0.05; done"]))
    service.configure(server.url)
    service.start()
    await server.until(lambda: "begun" in running.log)
    waiting = asyncio.create_task(command(service, "drain", "--wait", "--json"))
    async with asyncio.timeout(15):
        while (await asked(service, "status"))["state"] != "draining":
            await asyncio.sleep(0.02)
    second = server.add_job(job_payload())
    go.touch()
    assert json.loads((await waiting).stdout)["jobs"] == []
    assert (await server.finished(running)).status == "success"
    await service.kill()
    service.start()
    assert (await listening(service))["state"] == "draining"
    assert second.claims == 0
    assert (await command(service, "drain", "--undo")).stdout == "takes jobs again\n"
    assert (await server.finished(second)).status == "success"
