"""Process jobs in network mode internal: a sandbox's own network leads to the server, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.executors import processes
from nautilus_runner.executors.bubblewrap import Sandboxes
from nautilus_runner.network import inlet
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.machines import network_namespace
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import JOB_USER, RunnerProcess, RunningAgent, processes_with
from nautilus_runner.testing.server import ProtocolServer, ServedJob

SANDBOXED = {"process": {"user": JOB_USER, "grace_s": 2.0, "sandbox": "require"}}

LOOK = """
import json, socket, ssl, sys, urllib.request
def look(what):
    kind, _, where = what.partition(" ")
    try:
        if kind == "url":
            trusted = ssl.create_default_context(cadata=open("ca.pem").read())
            return urllib.request.urlopen(where, timeout=5, context=trusted).read().decode()
        if kind == "name":
            return socket.gethostbyname(where)
        if kind == "abstract":
            socket.socket(socket.AF_UNIX).connect("\\0" + where)
            return "reached"
        host, _, port = where.rpartition(":")
        socket.create_connection((host, int(port)), 5).close()
        return "reached"
    except OSError as error:
        return type(error).__name__
print("looked " + json.dumps([look(what) for what in sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def sandbox() -> None:
    if reason := Sandboxes().verdict(processes.account_of(JOB_USER)).reason:
        pytest.skip(f"no sandbox here: {reason}")
    if shutil.which("python3", path="/usr/local/bin:/usr/bin") is None:
        pytest.skip("no python3 in /usr to look around with")


@pytest.fixture
def cables() -> Iterator[tuple[str, str]]:
    """Two addresses of this machine's, each on a cable to another; loopback's twice where we may not lay any."""
    if os.geteuid() != 0:
        yield "127.0.0.1", "127.0.0.1"
        return
    with network_namespace(61) as one, network_namespace(62) as another:
        yield one.address, another.address


@pytest.fixture
def named_host() -> str:
    """A name that this machine resolves, and which is not localhost."""
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        pytest.skip("this machine does not know its own name")
    return socket.gethostname().lower()


@pytest.fixture
def certificate(tmp_path: Path, named_host: str) -> Path:
    """One file each for the key (key.pem) and the certificate of that name, by nobody's authority."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    names = ("-subj", "/CN=test", "-addext", f"subjectAltName=DNS:{named_host}")
    files = ("-keyout", str(key), "-out", str(cert))
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    return cert


@pytest.fixture
async def mirror(certificate: Path, named_host: str) -> AsyncIterator[int]:
    """A port where TLS is spoken, and each request is answered with its first line and its Host."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        host = next(line for line in head if line.lower().startswith("host:"))
        body = f"{head[0]} {host.partition(' ')[2]}"
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    listening = await asyncio.start_server(answer, "0.0.0.0", 0, ssl=context)
    yield int(listening.sockets[0].getsockname()[1])
    listening.close()


def looking(*things: str) -> list[str]:
    return [f"python3 - {' '.join(repr(thing) for thing in things)} <<'EOF'\n{LOOK}\nEOF"]


def seen(job: ServedJob) -> list[str]:
    assert job.status == "success", job.log
    [line] = [line for line in job.log.splitlines() if line.startswith("looked [")]
    found: list[str] = json.loads(line.removeprefix("looked "))
    return found


def inlets_of(data_dir: Path) -> list[int]:
    """Those beside scripts of the runner with this folder."""
    found = []
    for pid in processes_with(inlet.__file__):
        try:
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            if str(data_dir) in Path(f"/proc/{parent}/cmdline").read_text():
                found.append(pid)
        except OSError:
            continue
    return found


async def test_a_job_reaches_the_server_by_its_usual_addresses_and_nothing_else(
    server: ProtocolServer,
    runner: RunningAgent,
    repository: Repository,
    cables: tuple[str, str],
    named_host: str,
    mirror: int,
    certificate: Path,
) -> None:
    sha = repository.commit({"a": "from the repository\n"})
    abstract = f"nautilus-test-{os.getpid()}-{mirror}"
    with ExitStack() as stack:
        led, other = cables
        near, ours, others = (
            stack.enter_context(socket.create_server((address, 0))).getsockname()[1]
            for address in ("127.0.0.1", led, other)
        )
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(f"\0{abstract}")
        listening.listen()
        things = (
            f"tcp 127.0.0.1:{server.port}",
            f"tcp localhost:{server.port}",
            f"tcp {led}:{ours}",
            f"url https://{named_host}:{mirror}/x",
            f"tcp 127.0.0.1:{near}",
            f"tcp {other}:{others}",
            f"abstract {abstract}",
            "name nautilus-nowhere.example.org",
        )
        clone = (
            f"url=http://gitlab-ci-token:$CI_JOB_TOKEN@127.0.0.1:{server.port}/group/project.git",
            "git clone -q -b main $url there",
            f"test $(git -C there rev-parse HEAD) = {sha} && cat there/a",
        )
        script = [f"cat > ca.pem <<'EOF'\n{certificate.read_text()}EOF", *looking(*things), *clone]
        reachable = [f"{led}:{ours}", f"{named_host}:{mirror}"]
        await runner.start(server.url, reachable=reachable, concurrent=3, **SANDBOXED)
        jobs = {
            mode: server.add_job(job_payload(script, variables=[variable("NAUTILUS_NETWORK", mode)]))
            for mode in ("internal", "full", "none")
        }
        for job in jobs.values():
            await server.finished(job)
    assert jobs["none"].status == "failed"  # the clone
    internal, full = seen(jobs["internal"]), seen(jobs["full"])
    answer = f"GET /x HTTP/1.1 {named_host}:{mirror}"
    assert full == [*["reached"] * 3, answer, *["reached"] * 3, "gaierror"]
    assert internal[:4] == full[:4] and internal[7] == "gaierror"
    assert internal[4] == internal[6] == "ConnectionRefusedError"
    assert internal[5] == ("OSError" if other != "127.0.0.1" else "ConnectionRefusedError")  # no way there
    assert "\nfrom the repository\n" in jobs["internal"].log
    assert f"of the network only 127.0.0.1:{server.port}, " in jobs["internal"].log


async def test_the_way_to_the_server_outlives_the_runner_and_ends_with_the_job(
    server: ProtocolServer, service: RunnerProcess, data_dir: Path
) -> None:
    service.configure(server.url, network_mode="internal", **SANDBOXED)
    service.start()
    reach = looking(f"tcp 127.0.0.1:{server.port}")
    waiting = "echo begun; while [ ! -e go ]; do sleep 0.05; done"
    job = server.add_job(job_payload([waiting, *reach], after_script=reach))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await service.kill()
    [folder] = (data_dir / "builds").iterdir()
    (folder / "group" / "project" / "go").touch()
    service.start()
    await server.finished(job)
    assert job.log.count('\nlooked ["reached"]\n') == 2, job.log
    assert job.status == "success"
    async with asyncio.timeout(10):
        while inlets_of(data_dir):
            await asyncio.sleep(0.02)


async def test_a_job_whose_way_to_the_server_is_killed_fails_as_the_platforms_fault(
    server: ProtocolServer, runner: RunningAgent, data_dir: Path
) -> None:
    await runner.start(server.url, network_mode="internal", **SANDBOXED)
    job = server.add_job(job_payload(["echo begun; sleep 600"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    [pid] = inlets_of(data_dir)
    os.kill(pid, signal.SIGKILL)
    await server.finished(job)
    assert job.finals[-1]["failure_reason"] == "runner_system_failure"
    assert "the job's way to the server ended" in job.log


async def test_without_a_sandbox_it_is_refused_and_said_what_to_install(
    server: ProtocolServer, runner: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    process: dict[str, Any] = {**SANDBOXED["process"], "sandbox": "auto"}
    await runner.start(server.url, network_mode="internal", process=process)
    job = await server.finished(server.add_job(job_payload(["echo ran"])))
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"
    assert "\nran\n" not in job.log
    assert "network mode internal needs a sandbox" in job.log
    assert "`apt-get install bubblewrap`" in job.log
