"""Looking into a running job, with nothing played: forge, management, and the runner as a process of its own.

The runner reaches both by HTTP alone and listens nowhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx

from nautilus.testing.experiments import reached
from nautilus.testing.gitlab_worlds import ServerWorld
from nautilus.testing.management import RunningManagement, eventually

if TYPE_CHECKING:
    from nautilus_runner.testing.running import RunnerProcess

SCRIPT = """
mkdir -p outputs 'grüße'
printf 'one\\ntwo\\n' > log.txt
head -c 3000000 /dev/urandom > outputs/model.bin
ln -s /etc/passwd leak; ln -s /etc outside; mkfifo pipe
: > go; until [ -s go ]; do sleep 0.05; done
printf three >> log.txt; cat go > outputs/said
until [ -s end ]; do sleep 0.05; done
"""


async def running(forge: ServerWorld, user: httpx.AsyncClient, command: str) -> dict[str, Any]:
    """A run of `command` in a new project, once its job has begun."""
    name = f"live-{secrets.token_hex(4)}"
    made = await user.post("/api/v1/projects", json={"name": name, "template": "digits"})
    assert made.status_code == 201, made.text
    body = {
        "project": made.json()["id"],
        "command": command,
        "resources": {"runner_tags": [forge.tag]},
    }
    answer = await user.post("/api/v1/experiments", json=body)
    assert answer.status_code == 201, answer.text
    return await reached(user, answer.json()["experiments"][0]["id"], "running")


async def test_a_running_job_is_looked_into_and_written_into(
    forge: ServerWorld, user: httpx.AsyncClient, machine: Callable[[], RunnerProcess]
) -> None:
    machine()
    run = await running(forge, user, SCRIPT)
    files = f"/api/v1/experiments/{run['id']}/files"

    async def listed() -> dict[str, Any]:
        return {one["name"]: one for one in (await user.get(files)).json().get("files", ())}

    async def begun() -> bool:
        return "go" in await listed()

    await eventually(begun, "the job's files")
    found = await listed()
    kinds = {name: one["kind"] for name, one in found.items() if not name.startswith(".")}
    links = {"leak": "link", "outside": "link", "pipe": "other"}
    assert kinds == {"go": "file", "grüße": "folder", "log.txt": "file", "outputs": "folder", **links}
    assert found["log.txt"]["size_bytes"] == 8 and found["leak"]["link"] == "/etc/passwd"

    # A range, and the whole of something large, byte for byte as long as it says.
    part = await user.get(f"{files}/log.txt", headers={"Range": "bytes=4-"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "two\n", "bytes 4-7/8")
    tail = await user.get(f"{files}/log.txt", headers={"Range": "bytes=-3"})
    assert tail.text == "wo\n"
    model = await user.get(f"{files}/outputs/model.bin")
    assert len(model.content) == 3_000_000 == int(model.headers["content-length"])
    last = await user.get(f"{files}/outputs/model.bin", headers={"Range": "bytes=2999990-2999999"})
    assert last.content == model.content[-10:]

    # Nothing leads out, nothing hangs.
    for path in ("leak", "outside/passwd", "pipe", "outputs"):
        assert (await user.get(f"{files}/{path}")).status_code == 422, path
    assert (await user.get(files, params={"path": "../"})).status_code == 422
    assert (await user.get(f"{files}/nothing")).status_code == 404

    # Who waits for more gets it as soon as it is there; who writes is read by the job.
    asked_at = time.monotonic()
    more = asyncio.create_task(
        user.get(f"{files}/log.txt", headers={"Range": "bytes=8-", "Prefer": "wait=20"})
    )
    written = await user.put(f"{files}/go", content=b"now")
    assert written.status_code == 200, written.text
    grown = await more
    assert (grown.status_code, grown.text) == (206, "three") and time.monotonic() - asked_at < 15

    async def said() -> bool:
        return (await user.get(f"{files}/outputs/said")).text == "now"

    await eventually(said, "what the job copied")
    assert (await user.put(f"{files}/end", content=b"1")).status_code == 200
    await reached(user, run["id"], "succeeded")

    # Afterwards the same way leads to what the job kept.
    assert (await user.get(f"{files}/outputs/said")).text == "now"
    kept = (await user.get(files, params={"path": "outputs"})).json()["files"]
    assert {one["name"]: one["size_bytes"] for one in kept} == {"model.bin": 3_000_000, "said": 3}
    gone = await user.get(f"{files}/log.txt")
    assert gone.status_code == 404 and "artifacts" in gone.json()["message"]
    assert (await user.put(f"{files}/go", content=b"x")).status_code == 409


async def test_a_runner_that_is_killed_is_followed_by_the_next(
    forge: ServerWorld,
    user: httpx.AsyncClient,
    nautilus: RunningManagement,
    machine: Callable[[], RunnerProcess],
) -> None:
    runner = machine()
    run = await running(forge, user, "echo 1 > a; until [ -s end ]; do sleep 0.05; done")
    url = f"/api/v1/experiments/{run['id']}/files/a"

    async def readable() -> bool:
        return (await user.get(url)).text == "1\n"

    await eventually(readable, "the file")
    command = [sys.executable, "-m", "nautilus_runner"]
    at = ["--config", str(runner.config)]
    jobs = await asyncio.to_thread(subprocess.check_output, [*command, "jobs", "--json", *at])
    [job] = json.loads(jobs)
    assert (job["state"], job["executor"]) == ("running", "process")
    number = str(job["id"])
    there = await asyncio.to_thread(subprocess.check_output, [*command, "files", "cat", *at, number, "a"])
    assert there == b"1\n"

    # The runner is killed: who asks while it is away waits, and is answered by the next one.
    await runner.kill()
    asked = asyncio.create_task(user.get(url))
    runner.start()
    assert (await asked).text == "1\n" or await eventually(readable, "the file, after a restart")
    following = subprocess.Popen(
        [sys.executable, "-m", "nautilus.cli", "files", "tail", "-f", str(run["id"]), "a"],
        env={**os.environ, "NAUTILUS_URL": nautilus.url, "NAUTILUS_TOKEN": _token(user)},
        stdout=subprocess.PIPE,
    )
    assert following.stdout is not None
    assert await asyncio.to_thread(following.stdout.readline) == b"1\n"
    assert (await user.put(f"{url[:-1]}end", content=b"1")).status_code == 200
    assert await asyncio.to_thread(following.wait, 60) == 0
    await reached(user, run["id"], "succeeded")


def _token(user: httpx.AsyncClient) -> str:
    return user.headers["Authorization"].removeprefix("Bearer ")
