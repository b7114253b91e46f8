"""A run that moves from machine to machine, with nothing played: forge, management, two runners as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.testing.experiments import reached
from nautilus.testing.gitlab_worlds import ServerWorld
from nautilus.testing.management import (
    RunningManagement,
    eventually,
    management_settings,
    running_management,
)

server = pytest.importorskip("nautilus_forge.testing.server")
pytest.importorskip("nautilus_runner")
pytestmark = pytest.mark.drill

WORK = (
    'mkdir -p "$NAUTILUS_CHECKPOINT_DIR"; cd "$NAUTILUS_CHECKPOINT_DIR"; step=$(cat step || echo 0); '
    "echo begins at step $step; trap 'echo $((step + 1)) > step; exit 0' TERM; "
    "[ $step = 2 ] && exit 0; while :; do sleep 0.05; done"
)


@pytest.fixture
def forge_url(forge_database_url: str, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "forge").mkdir()
    with server.running_forge(forge_database_url, tmp_path / "forge") as forge:
        yield forge.url


@pytest.fixture
async def forge(forge_url: str) -> AsyncIterator[ServerWorld]:
    world = ServerWorld(forge_url, server.ADMIN_TOKEN)
    await world.make_runner()
    yield world
    await world.close()


@pytest.fixture
async def nautilus(
    forge: ServerWorld, forge_url: str, management_database_url: str, tmp_path: Path
) -> AsyncIterator[RunningManagement]:
    settings = management_settings(management_database_url, tmp_path / "home", gitlab_url=forge_url)
    settings.admin_token_file.write_text(server.ADMIN_TOKEN)
    async with running_management(settings) as running:
        yield running


@pytest.fixture
async def user(forge: ServerWorld, nautilus: RunningManagement) -> AsyncIterator[httpx.AsyncClient]:
    async with nautilus.client((await forge.make_user()).token.get_secret_value()) as client:
        yield client


@pytest.fixture
def machine(forge: ServerWorld, forge_url: str, nautilus: RunningManagement) -> Iterator[Callable[[], Path]]:
    """Starts a runner with a disk of its own; its configuration. Jobs fetch nothing: no Git is served here."""
    started: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def start() -> Path:
        folder = Path(tempfile.mkdtemp(prefix="nautilus-moving-", dir="/tmp"))
        folder.chmod(0o711)
        config = folder / "config.toml"
        config.write_text(
            f'data_dir = "{folder}"\n[[runners]]\nurl = "{forge_url}"\ntoken = "{forge.runner_token}"\n'
            f'nautilus_url = "{nautilus.url}"\nenvironment = ["GIT_STRATEGY=none"]\n'
            f'[runners.process]\nuser = "{"nobody" if os.geteuid() == 0 else ""}"\n'
        )
        command = [sys.executable, "-m", "nautilus_runner", "run", "--config", str(config)]
        with (folder / "log").open("wb") as log:
            started.append((folder, subprocess.Popen(command, stdout=log, stderr=log)))
        return config

    yield start
    for folder, process in started:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
        print((folder / "log").read_text(errors="replace")[-2000:])
        subprocess.run(["rm", "-rf", str(folder)], check=False)


async def begun(user: httpx.AsyncClient, experiment: dict[str, Any], step: int) -> None:
    async def has_begun() -> bool:
        log = await user.get(f"/api/v1/experiments/{experiment['id']}/log")
        return f"begins at step {step}" in log.text

    await eventually(has_begun, f"step {step}")


async def test_a_run_goes_on_where_it_was_on_another_machine_and_on_the_same(
    forge: ServerWorld, nautilus: RunningManagement, user: httpx.AsyncClient, machine: Callable[[], Path]
) -> None:
    project = (await user.post("/api/v1/projects", json={"name": "moving", "template": "digits"})).json()
    body = {"project": project["id"], "command": WORK, "resources": {"runner_tags": [forge.tag]}}
    [experiment] = (await user.post("/api/v1/experiments", json=body)).json()["experiments"]
    first = machine()
    await begun(user, experiment, 0)
    drain = [sys.executable, "-m", "nautilus_runner", "drain", "--preempt", "--wait", "--config", str(first)]
    done = await asyncio.to_thread(subprocess.run, drain, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    machine()
    await begun(user, experiment, 1)
    answer = await user.post(f"/api/v1/experiments/{experiment['id']}/preempt")
    assert answer.status_code == 200, answer.text
    finished = await reached(user, experiment["id"], "succeeded")
    assert finished["mlflow_run_id"] == experiment["mlflow_run_id"]
    attempts = (await user.get(f"/api/v1/experiments/{experiment['id']}/attempts")).json()
    assert [(a["state"], a["source"]) for a in attempts] == [
        ("failed", "platform"),
        ("canceled", None),
        ("succeeded", None),
    ]
    assert attempts[0]["reason"] == "the runner was interrupted"
    left = await user.get(
        "/api/2.0/mlflow/artifacts/list", params={"run_id": experiment["mlflow_run_id"], "path": "checkpoint"}
    )
    assert [f for f in left.json().get("files", []) if not f["is_dir"]] == []
