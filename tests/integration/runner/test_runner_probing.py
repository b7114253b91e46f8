"""A wrong address is named before any job meets it: in the log, in status.json and by `status`."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from nautilus_gateway.testing.programs import free_ports
from nautilus_runner.network.probing import own_targets, targets
from nautilus_runner.testing.running import JOB_USER, RunningAgent, settings_for
from nautilus_runner.testing.server import ProtocolServer


def test_what_jobs_are_told_of_is_what_is_asked(data_dir: Path) -> None:
    environment = [
        *("NAUTILUS_URL=http://n", "MLFLOW_TRACKING_URI=http://n/", "CI_API_V4_URL=http://g:1/api/v4"),
        *("A=http://x", "B=1"),
    ]
    [runner] = settings_for(
        "http://here:8080", data_dir, environment=environment, clone_url="http://g:1"
    ).runners
    assert [(target.name, target.path) for target in own_targets(runner)] == [
        ("clone_url", "/api/v4/version")
    ]
    assert [(target.name, target.path) for target in targets(runner)] == [
        ("NAUTILUS_URL", "/-/nautilus"),
        ("MLFLOW_TRACKING_URI", "/api/2.0/mlflow/experiments/search"),
        ("CI_API_V4_URL", "/version"),
        ("url", "/api/v4/version"),
    ]


async def warned(data_dir: Path, count: int) -> list[str]:
    deadline = time.monotonic() + 60
    while True:
        found: dict[str, Any] = json.loads((data_dir / "status.json").read_text())
        if len(found["warnings"]) == count:
            return list(found["warnings"])
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_wrong_addresses_are_named_at_once_and_taken_back_when_they_are_right(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    [port] = free_ports(1)  # nothing listens
    wrong = [f"CI_SERVER_URL=http://127.0.0.1:{port}", "MLFLOW_TRACKING_URI=http://no-such-host.invalid:1"]
    agent = await runner.start(server.url, environment=wrong)
    first, second = await warned(data_dir, 2)
    assert first.startswith(
        f"bundled: jobs do not reach CI_SERVER_URL http://127.0.0.1:{port} from processes: "
    )
    assert second.endswith("the name no-such-host.invalid is not known")
    assert first.partition(": ")[2] in caplog.text
    other = [f"NAUTILUS_URL={server.url}"]  # it answers, but is no Nautilus
    await agent.apply(settings_for(server.url, data_dir, environment=other))
    [third] = await warned(data_dir, 1)
    assert "something else answers there: 401 for /-/nautilus" in third
    await agent.apply(settings_for(server.url, data_dir))
    await warned(data_dir, 0)


async def test_a_network_mode_that_no_job_can_be_kept_to_is_named_before_any_comes(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    process = {"user": JOB_USER, "sandbox": "auto"}
    await runner.start(server.url, network_mode="internal", process=process)
    [found] = await warned(data_dir, 1)
    assert found.startswith("bundled: no job is run: network_mode = internal needs a sandbox for processes")
    assert "`apt-get install bubblewrap`" in found
