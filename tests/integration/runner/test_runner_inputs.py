"""Inputs of jobs: fetched once, whole or not at all, shared read-only, whatever the network does."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import secrets
import signal
import tarfile
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nautilus_runner.testing.datahost import DataHost, Served
from nautilus_runner.testing.githost import Repository
from nautilus_runner.testing.payloads import job_payload, variable
from nautilus_runner.testing.running import RunnerProcess, RunningAgent, settings_for
from nautilus_runner.testing.server import ProtocolServer, ServedJob, printed

HERE = '\n[data]\nlocal_hosts = ["127.0.0.1"]\n'


@pytest.fixture
async def host() -> AsyncIterator[DataHost]:
    async with DataHost() as running:
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanting(inputs: Any, script: list[str], **parts: Any) -> dict[str, Any]:
    text = inputs if isinstance(inputs, str) else json.dumps(inputs)
    given = [variable("NAUTILUS_INPUTS", text, raw=True), *parts.pop("variables", [])]
    return job_payload(script, variables=given, **parts)


async def run(
    server: ProtocolServer, runner: RunningAgent, payload: dict[str, Any], tables: str = HERE
) -> ServedJob:
    job = server.add_job(payload)
    if runner.agent is None:
        await runner.start(server.url, tables=tables)
    return await server.finished(job)


async def test_an_input_is_fetched_once_verified_and_shared_read_only(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = secrets.token_bytes(300_000)
    host.files["/sets/train.bin"] = Served(content)
    wish = {"url": f"{host.url}/sets/train.bin", "path": "sets/train.bin", "sha256": sha256(content)}
    script = ["sha256sum < sets/train.bin", "echo x >> sets/train.bin || echo refused", "rm sets/train.bin"]
    first = await run(server, runner, wanting([wish], script))
    second = await run(server, runner, wanting([wish], script))
    for job in (first, second):
        assert job.status == "success", job.log
        assert printed(job)[0].startswith(sha256(content))
        assert "refused" in printed(job) or os.geteuid() != 0
    assert host.downloads_of("/sets/train.bin") == 1
    assert "Fetching inputs" in first.log
    assert "are here already" in second.log


async def test_a_cut_download_goes_on_where_it_was(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = secrets.token_bytes(5_000_000)
    host.files["/big"] = Served(content, cuts=[1_500_000, 1_000_000])
    job = await run(server, runner, wanting(f"{host.url}/big", ["sha256sum < big"]))
    assert job.status == "success", job.log
    assert printed(job)[0].startswith(sha256(content))
    ranges = [headers.get("range") for _, headers in host.requests]
    assert ranges[0] is None
    assert ranges[1:] == ["bytes=1500000-", "bytes=2500000-"]
    assert host.sent == len(content)


async def test_a_server_without_ranges_is_asked_from_the_beginning(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = secrets.token_bytes(2_000_000)
    host.files["/big"] = Served(content, cuts=[1_500_000], has_ranges=False)
    job = await run(server, runner, wanting(f"{host.url}/big", ["sha256sum < big"]))
    assert printed(job)[0].startswith(sha256(content)), job.log


async def test_another_content_than_asked_for_fails_the_job_and_names_both_hashes(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    host.files["/set"] = Served(b"not what was meant")
    asked = sha256(b"what was meant")
    job = await run(server, runner, wanting(f"{host.url}/set sha256={asked}", ["echo never"]))
    assert job.finals[-1]["failure_reason"] == "runner_external_dependency_failure"
    assert asked in job.log and sha256(b"not what was meant") in job.log
    assert "step_script" not in job.log
    assert not list((runner.data_dir / "data" / "blobs").iterdir())
    assert not list((runner.data_dir / "data" / "partial").iterdir())


async def test_two_jobs_that_want_the_same_at_once_share_one_download(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = secrets.token_bytes(3_000_000)
    served = host.files["/set"] = Served(content, gate=asyncio.Event())
    assert served.gate is not None
    jobs = [server.add_job(wanting(f"{host.url}/set", ["sha256sum < set"])) for _ in range(2)]
    await runner.start(server.url, tables=HERE)
    await server.until(lambda: any("on its way already" in job.log for job in jobs))
    served.gate.set()
    for job in jobs:
        await server.finished(job)
        assert printed(job)[0].startswith(sha256(content)), job.log
    assert host.downloads_of("/set") == 1


async def test_a_canceled_job_does_not_take_the_download_from_another(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = secrets.token_bytes(3_000_000)
    served = host.files["/set"] = Served(content, gate=asyncio.Event())
    assert served.gate is not None
    first = server.add_job(wanting(f"{host.url}/set", ["true"]))
    await runner.start(server.url, tables=HERE)
    await server.until(lambda: "Fetching inputs" in first.log)
    second = server.add_job(wanting(f"{host.url}/set", ["sha256sum < set"]))
    await server.until(lambda: "on its way already" in second.log)
    server.cancel(first)
    await server.finished(first)
    served.gate.set()
    await server.finished(second)
    assert printed(second)[0].startswith(sha256(content)), second.log
    assert host.downloads_of("/set") == 1


@pytest.mark.drill
async def test_a_killed_runner_goes_on_with_the_bytes_that_it_has(
    server: ProtocolServer, service: RunnerProcess, host: DataHost
) -> None:
    content = secrets.token_bytes(6_000_000)
    served = host.files["/set"] = Served(content, gate=asyncio.Event())
    assert served.gate is not None
    job = server.add_job(wanting(f"{host.url}/set", ["sha256sum < set"]))
    service.configure(server.url, tables=HERE)
    service.start()
    partial = service.data_dir / "data" / "partial"
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in partial.glob("*")) < 2_000_000:
        assert time.monotonic() < deadline, service.log()
        await asyncio.sleep(0.02)
    await service.kill()
    served.gate.set()
    service.start()
    await server.finished(job)
    assert printed(job)[0].startswith(sha256(content)), job.log
    resumed = [headers["range"] for _, headers in host.requests if "range" in headers]
    assert resumed and int(resumed[0].removeprefix("bytes=").rstrip("-")) >= 1_900_000


async def test_without_a_hash_the_server_is_asked_whether_it_is_still_the_same(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    host.files["/set"] = Served(b"first version")
    wish = wanting(f"{host.url}/set", ["cat set; echo"])
    assert printed(await run(server, runner, wish)) == ["first version"]
    assert printed(await run(server, runner, wanting(f"{host.url}/set", ["cat set; echo"]))) == [
        "first version"
    ]
    assert host.downloads_of("/set") == 1
    host.files["/set"] = Served(b"second version")
    assert printed(await run(server, runner, wanting(f"{host.url}/set", ["cat set; echo"]))) == [
        "second version"
    ]


async def test_archives_are_unpacked_once_and_hostile_ones_refused(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    packed, tarred, hostile = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("deep/a.txt", "from a zip")
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        info = tarfile.TarInfo("b.txt")
        info.size = 10
        tar.addfile(info, io.BytesIO(b"from a tar"))
        link = tarfile.TarInfo("same.txt")
        link.type, link.linkname = tarfile.LNKTYPE, "b.txt"
        tar.addfile(link)
    with tarfile.open(fileobj=hostile, mode="w") as tar:
        info = tarfile.TarInfo("../../escaped")
        tar.addfile(info, io.BytesIO(b""))
    host.files["/a.zip"], host.files["/b.tar.gz"] = Served(packed.getvalue()), Served(tarred.getvalue())
    host.files["/c.tar"] = Served(hostile.getvalue())
    urls = (f"{host.url}/a.zip", f"{host.url}/b.tar.gz")
    toml = "\n".join(f'[[inputs]]\nurl = "{url}"\nunpack = true' for url in urls)
    script = ["cat a/deep/a.txt; echo", "cat b/same.txt; echo", "echo x > a/deep/new || echo refused"]
    job = await run(server, runner, wanting(toml, script))
    assert printed(job)[:2] == ["from a zip", "from a tar"], job.log
    refused = await run(server, runner, wanting(f"{host.url}/c.tar unpack", ["true"]))
    assert "can't be unpacked: '../../escaped': leads out of the folder" in refused.log
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3 << 20))
    host.files["/bomb.zip"] = Served(bomb.getvalue())
    settings = settings_for(server.url, runner.data_dir, tables=HERE, unpack_limit_mib=1)
    assert runner.agent is not None
    await runner.agent.apply(settings)
    burst = await run(server, runner, wanting(f"{host.url}/bomb.zip unpack", ["true"]))
    assert "unpack_limit_mib" in burst.log
    assert burst.finals[-1]["failure_reason"] == "runner_external_dependency_failure"


async def test_the_jobs_token_goes_to_its_own_server_and_nowhere_else(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    host.files["/public"] = Served(b"public")
    payload = wanting([{"url": f"{host.url}/public"}], ["cat public; echo"])
    host.files["/moved"] = Served(b"", location=f"http://localhost:{host.port}/public")
    assert printed(await run(server, runner, payload)) == ["public"]
    assert all("job-token" not in headers and "authorization" not in headers for _, headers in host.requests)
    secret = "Bearer of-the-user"
    wish = [{"url": f"{host.url}/moved", "path": "moved", "headers": {"Authorization": secret}}]
    moved = await run(
        server,
        runner,
        wanting(wish, ["cat moved; echo"]),
    )
    seen = [headers for path, headers in host.requests if path == "/moved"]
    assert seen[0]["authorization"] == secret
    assert "authorization" not in host.requests[-1][1], moved.log


async def test_artifacts_of_the_server_come_with_the_jobs_own_token(
    server: ProtocolServer, runner: RunningAgent
) -> None:
    other = job_payload(["true"])
    served = server.add_job(other, artifacts=b"PK\x05\x06" + bytes(18))
    server.cancel(served)
    payload = wanting(
        [{"url": f"/api/v4/jobs/{served.id}/artifacts", "path": "model.zip"}], ["wc -c < model.zip"]
    )
    denied = await run(server, runner, payload)
    assert "the server answered 403 (not allowed)" in denied.log
    own = wanting([], ["wc -c < model.zip"])
    own["variables"][-1]["value"] = json.dumps(
        {"url": f"/api/v4/jobs/{own['id']}/artifacts", "path": "model.zip"}
    )
    job = server.add_job(own, artifacts=b"PK\x05\x06" + bytes(18))
    await server.finished(job)
    assert printed(job) == ["22"], job.log


async def test_what_is_kept_is_not_given_for_a_hash_alone(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    content = b"data of project 1"
    host.files["/private"] = Served(content, tokens=frozenset({"Bearer good"}))
    wish = {
        "url": f"{host.url}/private",
        "sha256": sha256(content),
        "headers": {"Authorization": "Bearer good"},
    }
    assert printed(await run(server, runner, wanting([wish], ["cat private; echo"]))) == [content.decode()]
    thief = wanting([{**wish, "headers": {"Authorization": "Bearer bad"}}], ["cat private"])
    thief["job_info"]["project_id"] = 2
    job = await run(server, runner, thief)
    assert job.status == "failed"
    assert "403 (not allowed)" in job.log
    host.files["/lie"] = Served(b"x" * len(content))
    liar = await run(
        server, runner, wanting([{"url": f"{host.url}/lie", "sha256": sha256(content)}], ["cat lie"])
    )
    assert liar.status == "failed"
    assert "is not" not in liar.log.split("SHA-256")[0] and "as asked for" in liar.log


async def test_a_job_can_not_make_the_runner_ask_its_own_machine(
    server: ProtocolServer, runner: RunningAgent, host: DataHost
) -> None:
    host.files["/secret"] = Served(b"canary")
    for url in (host.url, f"http://localhost:{host.port}", f"http://[::ffff:127.0.0.1]:{host.port}"):
        job = await run(server, runner, wanting(f"{url}/secret", ["cat secret"]), tables="")
        assert job.status == "failed"
        assert "address of the runner's own machine" in job.log, job.log
    metadata = await run(server, runner, wanting("http://169.254.169.254/latest", ["true"]), tables="")
    assert "address of the runner's own machine or link" in metadata.log
    assert host.requests == []


async def test_inputs_give_way_to_newer_ones_but_never_while_a_job_uses_them(
    server: ProtocolServer, runner: RunningAgent, host: DataHost, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d"):
        host.files[f"/{name}"] = Served(name.encode() * 700_000)
    tables = f"{HERE}limit_mib = 2\n"
    await run(server, runner, wanting(f"{host.url}/a", ["wc -c < a"]), tables)
    go = tmp_path / "go"
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    holder = server.add_job(
        wanting(f"{host.url}/b", ["echo begun", f"until [ -e {go} ]; do sleep 0.05; done", "wc -c < b"])
    )
    await server.until(lambda: "\nbegun" in holder.log)
    agent = runner.agent
    assert agent is not None
    for name in ("c", "d"):
        async with asyncio.timeout(60):  # what a job used is given back a moment after its end
            while agent.status().busy > 1:
                await asyncio.sleep(0.01)
        job = await run(server, runner, wanting(f"{host.url}/{name}", [f"wc -c < {name}"]))
        assert printed(job) == ["700000"], job.log
    kept = {path.name for path in (runner.data_dir / "data" / "blobs").iterdir()}
    assert sha256(b"b" * 700_000) in kept
    assert sha256(b"a" * 700_000) not in kept
    assert len(kept) == 2
    host.files["/e"] = Served(b"e" * 1_500_000)
    full = await run(server, runner, wanting(f"{host.url}/e", ["true"]))
    assert "[data] limit_mib" in full.log and full.status == "failed"
    go.touch()
    await server.finished(holder)
    assert printed(holder)[-1] == "700000"


async def test_inputs_stay_out_of_git_and_never_replace_files_of_the_repository(
    server: ProtocolServer, runner: RunningAgent, host: DataHost, repository: Repository
) -> None:
    sha = repository.commit({"data/mine.txt": "mine\n"})
    repository.point("refs/pipelines/7", sha)
    host.files["/x"] = Served(b"x")
    fine = wanting(
        [{"url": f"{host.url}/x", "path": "data/x"}],
        ["git status --short", "cat data/x; echo"],
        url=server.url,
        sha=sha,
    )
    assert printed(await run(server, runner, fine)) == ["x"]
    clash = wanting([{"url": f"{host.url}/x", "path": "data/mine.txt"}], ["true"], url=server.url, sha=sha)
    job = await run(server, runner, clash)
    assert "is in the way of a file of the repository" in job.log
    assert job.finals[-1]["failure_reason"] == "runner_configuration_error"


@pytest.mark.drill
async def test_a_running_jobs_inputs_survive_a_restart(
    server: ProtocolServer, service: RunnerProcess, host: DataHost
) -> None:
    host.files["/a"], host.files["/b"] = Served(b"a" * 1_000_000), Served(b"b" * 1_000_000)
    service.configure(server.url, tables=f"{HERE}limit_mib = 1\n")
    service.start()
    go = service.data_dir / "go"
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    job = server.add_job(wanting(f"{host.url}/a", ["echo begun", wait, "wc -c < a"]))
    await server.until(lambda: "\nbegun" in job.log)
    service.send(signal.SIGTERM)
    await service.wait()
    service.start()
    other = server.add_job(wanting(f"{host.url}/b", ["true"]))
    await server.finished(other)
    assert "[data] limit_mib" in other.log
    go.touch()
    await server.finished(job)
    assert "1000000" in job.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as somebody else")
async def test_where_the_jobs_user_can_not_come_to_the_data_it_gets_a_copy_of_its_own(
    server: ProtocolServer, data_dir: Path, host: DataHost
) -> None:
    host.files["/set"] = Served(b"copied")
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    inner = closed / "runner"
    inner.mkdir(mode=0o711)
    runner = RunningAgent(inner)
    try:
        job = await run(
            server, runner, wanting(f"{host.url}/set", ["cat set; echo", "echo mine > set", "cat set"])
        )
        assert printed(job) == ["copied", "mine"], job.log
        again = await run(server, runner, wanting(f"{host.url}/set", ["cat set; echo"]))
        assert printed(again) == ["copied"], again.log
    finally:
        await runner.stop()
