"""What jobs in containers reach over the network, on a real daemon: never each other."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunningAgent
from nautilus_runner.testing.server import ProtocolServer, ServedJob

IMAGE = "nautilus-job"  # it has Python, to look around with
METADATA = "169.254.169.254"
pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("daemon")]

LOOK = """
import json, os, socket, sys, urllib.request
def tcp(host, port):
    try:
        socket.create_connection((host, int(port)), 2).close()
        return "reached"
    except OSError as error:
        return type(error).__name__
found = {}
for what in sys.argv[1:]:
    host, _, port = what.rpartition(":")
    if "://" in what:
        try:
            found[what] = urllib.request.urlopen(what, timeout=5).status
        except urllib.error.HTTPError as error:
            found[what] = error.code
        except OSError as error:
            found[what] = type(error).__name__
    else:
        found[what] = tcp(host, port)
print("looked " + json.dumps(found))
"""


@pytest.fixture
def bridge(daemon: docker.APIClient) -> str:
    """This machine's address on Docker's default bridge: as an appliance on the host listens there."""
    found: str = daemon.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
    return found


@pytest.fixture
async def near_server(repositories: Path, bridge: str) -> AsyncIterator[ProtocolServer]:
    async with ProtocolServer(repositories, host=bridge) as running:
        yield running


@pytest.fixture
async def neighbour(daemon: docker.APIClient, bridge: str) -> AsyncIterator[int]:
    """A port of the host's, that is not the server's."""

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(close, "0.0.0.0", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


@pytest.fixture
def metadata() -> Iterator[None]:
    """A host with the address of a cloud's metadata, one hop away from this machine, that answers at port 80."""
    name = f"md{uuid.uuid4().hex[:6]}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b netns {name}",
        f"ip link set {name}a up",
        f"ip addr add 198.18.77.1/30 dev {name}a",
        f"ip -n {name} addr add 198.18.77.2/30 dev {name}b",
        f"ip -n {name} addr add {METADATA}/32 dev {name}b",
        f"ip -n {name} link set {name}b up",
        f"ip -n {name} route add default via 198.18.77.1",
        f"ip route add {METADATA}/32 via 198.18.77.2",
    ]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"no network namespace for a stand-in: {command}: {done.stderr.strip()}")
        listen = (
            f"import socket, sys; s = socket.create_server(({METADATA!r}, 80)); "
            "print(1, flush=True); sys.stdin.read()"
        )
        answering = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", listen],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        assert answering.stdout is not None and answering.stdout.readline() == b"1\n"
        yield
        answering.communicate()
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True)


def options(**fields: Any) -> dict[str, Any]:
    given = {"image": IMAGE, "pull_policy": ["never"], "grace_s": 2.0, **fields.pop("docker", {})}
    return {"executor": "docker", "docker": given, "process": {}, **fields}


def looking(*targets: str, network: str = "", **parts: Any) -> dict[str, Any]:
    script = ["python3 - " + " ".join(targets) + " <<'END'\n" + LOOK + "END"]
    given = [variable("NAUTILUS_NETWORK", network)] if network else []
    return job_payload(script, variables=[*given, *parts.pop("variables", [])], **parts)


def seen(job: ServedJob) -> dict[str, Any]:
    assert job.status == "success", job.log
    [line] = [line for line in job.log.splitlines() if line.startswith("looked ")]
    found: dict[str, Any] = json.loads(line.removeprefix("looked "))
    return found


async def test_internal_reaches_the_server_alone(
    near_server: ProtocolServer, runner: RunningAgent, bridge: str, neighbour: int
) -> None:
    port = near_server.url.rpartition(":")[2]
    await runner.start(
        near_server.url,
        **options(
            network_mode="internal",
            environment=[f"NAUTILUS_URL=http://nautilus:{port}", f"RAW={near_server.url}"],
            docker={"extra_hosts": [f"nautilus:{bridge}"]},
        ),
    )
    payload = looking(
        "$NAUTILUS_URL/api/v4/version", "$RAW/api/v4/version", f"{bridge}:{port}", f"{bridge}:{neighbour}",
        "1.1.1.1:53", f"{METADATA}:80",
    )  # fmt: skip
    found = seen(await near_server.finished(near_server.add_job(payload), 90))
    values = list(found.values())
    assert values[0] in (200, 401, 404) and values[1] in (200, 401, 404), found
    assert "reached" not in values[2:], found


async def test_none_has_no_network_and_a_job_may_not_ask_for_more_than_it_is_given(
    near_server: ProtocolServer, runner: RunningAgent, bridge: str
) -> None:
    await runner.start(near_server.url, **options(network_mode="internal"))
    port = near_server.url.rpartition(":")[2]
    alone = near_server.add_job(looking(f"{bridge}:{port}", network="none"))
    greedy = near_server.add_job(looking(f"{bridge}:{port}", network="full"))
    found = seen(await near_server.finished(alone, 90))
    assert list(found.values()) == ["OSError"], found
    await near_server.finished(greedy, 90)
    assert greedy.finals[-1]["failure_reason"] == "runner_configuration_error"
    assert (
        "NAUTILUS_NETWORK=full asks for more than this runner gives to jobs, which is internal" in greedy.log
    )


async def test_full_reaches_what_the_machine_does_but_neither_other_jobs_nor_the_metadata(
    near_server: ProtocolServer,
    runner: RunningAgent,
    daemon: docker.APIClient,
    bridge: str,
    neighbour: int,
    metadata: None,
) -> None:
    socket.create_connection((METADATA, 80), 5).close()  # the machine itself reaches it
    await runner.start(near_server.url, **options())
    serving = near_server.add_job(job_payload(["echo serving; exec python3 -m http.server 8000"]))
    await near_server.until(lambda: b"\nserving\n" in serving.trace, 60)
    [other] = [
        found
        for found in daemon.containers(filters={"label": "org.nautilus.runner.job"})
        if found["Labels"]["org.nautilus.runner.job"].endswith(f"-{serving.id}")
    ]
    address = next(iter(other["NetworkSettings"]["Networks"].values()))["IPAddress"]
    payload = looking(f"{bridge}:{neighbour}", f"{address}:8000", f"{METADATA}:80")
    found = seen(await near_server.finished(near_server.add_job(payload), 90))
    reached = [what for what, how in found.items() if how == "reached"]
    assert len(found) == 3 and reached == [f"{bridge}:{neighbour}"], found
    near_server.cancel(serving, force=True)
    await near_server.finished(serving, 60)


async def test_a_network_is_used_again_and_goes_with_the_runner(
    near_server: ProtocolServer, runner: RunningAgent, daemon: docker.APIClient
) -> None:
    agent = await runner.start(near_server.url, **options(network_mode="internal"))
    filters = {"label": f"org.nautilus.runner.system-id={agent._machine.system_id}"}
    names: list[set[str]] = []
    for _ in range(2):
        await near_server.finished(near_server.add_job(looking()), 90)
        while agent._machine.executors.networking("").pool.used:
            await asyncio.sleep(0.02)
        names.append({found["Name"] for found in daemon.networks(filters=filters)})
    assert names[0] and names[0] == names[1]
    forwarders = {"label": [filters["label"], "org.nautilus.runner.role=forwarder"]}
    [forwarder] = daemon.containers(filters=forwarders)
    inspected = daemon.inspect_container(forwarder["Id"])
    assert inspected["Mounts"] == [] and inspected["HostConfig"]["CapDrop"] == ["ALL"]
    assert inspected["HostConfig"]["ReadonlyRootfs"] and inspected["Config"]["User"] == "65534:65534"
    await runner.stop()
    assert daemon.networks(filters=filters) == [] and daemon.containers(all=True, filters=filters) == []
