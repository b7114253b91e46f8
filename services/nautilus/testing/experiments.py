"""Steps that tests of experiments share: submit, take the job, wait for a state or the clean-up."""

from __future__ import annotations

from typing import Any

import httpx

from nautilus.gitlab.memory import MemoryGitLab
from nautilus.gitlab.memory_server import StoredJob
from nautilus.testing.management import RunningManagement, eventually


async def submit(ada: httpx.AsyncClient, project: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    body = {
        "project": project["path_with_namespace"],
        "command": "python train.py --lr {lr}",
        "params": {"lr": 0.1},
    }
    answer = await ada.post("/api/v1/experiments", json=body | more)
    assert answer.status_code == 201, answer.text
    accepted: list[dict[str, Any]] = answer.json()["experiments"]
    return accepted


async def taken(gitlab: MemoryGitLab) -> StoredJob:
    async def look() -> StoredJob | None:
        return gitlab.take_job()

    return await eventually(look, "a job for the runner")


async def reached(ada: httpx.AsyncClient, number: int, state: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = (await ada.get(f"/api/v1/experiments/{number}")).json()
        return found if found["state"] == state else None

    return await eventually(look, f"experiment {number} to be {state}")


async def closed(management: RunningManagement, gitlab: MemoryGitLab, number: int) -> None:
    async def look() -> bool:
        return all(f"nautilus/run-{number}" not in p.branches for p in gitlab.projects.values())

    await eventually(look, "the branch to go")
