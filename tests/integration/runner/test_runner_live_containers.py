"""Looking into the folder of a job that runs in a container: by the daemon's archives, nothing is run in it."""

from __future__ import annotations

import asyncio
from typing import Any

import docker
import pytest

from nautilus_runner.live.desk import Answer, Request
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer

IMAGE = "debian:trixie-slim"

pytestmark = pytest.mark.docker

SCRIPT = (
    "mkdir -p out/deep; printf 'one\\ntwo\\n' > log; ln -s /etc outside; ln -s /etc/passwd leak; mkfifo pipe;"
    " head -c 30000000 /dev/zero > out/big; until [ -s go ]; do sleep 0.05; done; stat -c %u go; cat go;"
    " sleep 600"
)


async def test_a_container_is_looked_into_written_into_and_killed_at_once(
    server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    job = server.add_job(job_payload([SCRIPT], image={"name": IMAGE}))
    agent = await runner.start(server.url, executor="docker", docker={"image": IMAGE, "grace_s": 600.0})
    async with asyncio.timeout(60):
        while not (agent.jobs and agent.jobs[0].state == "running"):
            await asyncio.sleep(0.05)
        desk = agent.jobs[0].desk

        async def ask(**fields: Any) -> tuple[Answer, bytes]:
            async def content() -> Any:
                yield b"now"

            answer = await desk.answer(Request(**fields), content)
            got = b"".join([part async for part in answer.content]) if answer.content else b""
            return answer, got

        while True:
            answer, _ = await ask(verb="list")
            found = {one["name"]: one["kind"] for one in answer.head.get("items", ())}
            if (
                "out" in found
                and (await ask(verb="look", path="out/big"))[0].head.get("item", {}).get("size_bytes")
                == 30_000_000
            ):
                break
            await asyncio.sleep(0.1)
        assert found == {"log": "file", "out": "folder", "outside": "link", "leak": "link", "pipe": "other"}
        assert (await ask(verb="read", path="log", offset=-4))[1] == b"two\n"
        answer, got = await ask(verb="read", path="out/big", offset=29_999_990)
        assert got == bytes(10) and answer.head["length"] == 10
        for path in ("outside/passwd", "leak", "pipe", "../x", "out"):
            assert (await ask(verb="read", path=path))[0].head["error"]["code"] in ("bad_path", "is_folder")
        for path in ("outside/x", "leak", "pipe", "none/x"):
            answer, _ = await ask(verb="write", path=path, length=3)
            assert "error" in answer.head, path
        answer, _ = await ask(verb="write", path="go", length=3)
        assert answer.head["item"]["size_bytes"] == 3, answer.head
        while "now" not in job.log:
            await asyncio.sleep(0.05)

        # Killed from afar: the container is gone long before the time that the job would be given is over.
        [container] = [c["Id"] for c in daemon.containers() if str(job.id) in c["Names"][0]]
        server.cancel(job, force=True)
        while any(c["Id"] == container for c in daemon.containers()):
            await asyncio.sleep(0.02)
