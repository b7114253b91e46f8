"""The service and its command line: configuration that comes late and changes, signals, status, joining, leaving."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.running import RunnerProcess
from nautilus_runner.testing.server import REGISTRATION_TOKEN, RUNNER_TOKEN, ProtocolServer


async def eventually(condition: Callable[[], bool], what: Callable[[], str], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.02)


def status_of(service: RunnerProcess) -> dict:
    try:
        return json.loads((service.data_dir / "status.json").read_text())
    except FileNotFoundError:
        return {}


async def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "nautilus_runner", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


async def test_the_service_waits_for_its_configuration_and_says_so(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.start()
    await eventually(lambda: "waiting for" in status_of(service).get("reason", ""), service.log)
    assert status_of(service)["state"] == "connecting"
    service.configure(server.url)
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    job = server.add_job(job_payload())
    await server.finished(job)


async def test_status_json_has_the_documented_shape(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    go = service.data_dir / "go"
    job = server.add_job(job_payload(["echo begun", f"until [ -e {go} ]; do sleep 0.05; done"]))
    await server.until(lambda: b"\nbegun\n" in job.trace)
    await eventually(
        lambda: [one["state"] for one in status_of(service).get("jobs", ())] == ["running"], service.log
    )
    found = status_of(service)
    assert set(found) == {
        "pid",
        "version",
        "updated_at",
        "state",
        "reason",
        "executors",
        "slots",
        "gpus",
        "jobs",
        "capacity",
        "warnings",
    }
    assert service.process is not None and found["pid"] == service.process.pid
    assert found["executors"] == ["process"]
    assert found["slots"] == {"total": 2, "busy": 1}
    [shown] = found["jobs"]
    assert shown["id"] == job.id and shown["state"] == "running" and shown["started_at"].endswith("Z")
    go.touch()
    await server.finished(job)
    await eventually(lambda: status_of(service)["slots"]["busy"] == 0, service.log)
    service.send(signal.SIGTERM)
    await service.wait()
    assert status_of(service)["state"] == "stopping"


async def test_a_changed_configuration_is_taken_up_without_a_restart(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url, concurrent=1, environment=["WORD=old"])
    service.start()
    first = server.add_job(job_payload(["echo word=$WORD"]))
    await server.finished(first)
    service.configure(server.url, concurrent=3, environment=["WORD=new"])
    await eventually(lambda: status_of(service).get("slots", {}).get("total") == 3, service.log)
    second = server.add_job(job_payload(["echo word=$WORD"]))
    await server.finished(second)
    assert "word=old" in first.log and "word=new" in second.log


async def test_a_broken_configuration_is_told_and_the_old_one_stays(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    service.config.write_text("concurrent = 'many'")
    await eventually(lambda: "config.toml: concurrent" in service.log(), service.log)
    job = server.add_job(job_payload())
    await server.finished(job)


async def test_two_runners_do_not_share_a_data_folder(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    second = await cli("run", "--config", str(service.config))
    assert second.returncode == 2
    assert "another runner uses" in second.stderr


async def test_the_idle_service_is_small_and_starts_fast(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    service.start()
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    assert service.process is not None
    folder = Path(f"/proc/{service.process.pid}")
    pss_kib = int((folder / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    print(f"idle {pss_kib / 1024:.1f} MiB PSS, {cpu_s:.2f} s CPU to ready")
    assert pss_kib < 50 * 1024
    assert cpu_s < 0.5 * 2, "twice the budget, since this machine is shared while tests run"


async def test_registering_with_a_runner_token_verifies_it_and_keeps_the_file(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# mine\nconcurrent = 4 # four\n")
    done = await cli(
        "register", "--non-interactive", "--config", str(config), "--url", server.url + "/",
        "--token", RUNNER_TOKEN, "--name", "box", "--executor", "docker", "--docker-image", "python:3.12",
        "--env", "A=1", "--env", "B=two words",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = config.read_text()
    assert text.startswith("# mine\nconcurrent = 4 # four\n")
    [entry] = tomllib.loads(text)["runners"]
    assert entry == {
        "name": "box", "id": 7, "url": server.url, "token": RUNNER_TOKEN, "executor": "docker",
        "environment": ["A=1", "B=two words"], "docker": {"image": "python:3.12"},
    }  # fmt: skip
    assert config.stat().st_mode & 0o777 == 0o600
    assert RUNNER_TOKEN not in done.stdout + done.stderr


async def test_registering_with_a_registration_token_makes_a_runner(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "deep" / "config.toml"
    done = await cli(
        "register", "-n", "-c", str(config), "--url", server.url, "--registration-token", REGISTRATION_TOKEN,
        "--description", "box", "--tag-list", "gpu, linux", "--locked", "--maximum-timeout", "3600",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [asked] = server.registered
    assert asked["tag_list"] == "gpu,linux"
    assert asked["run_untagged"] is False and asked["locked"] is True
    assert asked["description"] == "box" and asked["maximum_timeout"] == 3600
    assert asked["info"]["name"] == "nautilus-runner"
    [entry] = tomllib.loads(config.read_text())["runners"]
    assert entry["token"] == "glrtr-made-1" and entry["id"] == 1


async def test_a_refused_registration_is_one_line_and_changes_nothing(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    done = await cli(
        "register", "-n", "-c", str(config), "--url", server.url, "--registration-token", "wrong"
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "nautilus-runner: registering the runner: the server answered 403: 403 Forbidden - invalid token supplied"
    )
    assert not config.exists()
    missing = await cli("register", "-n", "-c", str(config), "--token", RUNNER_TOKEN)
    assert missing.returncode == 2 and "--url is missing" in missing.stderr


async def test_a_token_may_come_by_the_environment(server: ProtocolServer, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    done = await cli("register", "-n", "-c", str(config), "--url", server.url, CI_SERVER_TOKEN=RUNNER_TOKEN)
    assert done.returncode == 0, done.stderr


async def test_list_verify_and_unregister(server: ProtocolServer, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    for name in ("one", "two"):
        await cli(
            "register", "-n", "-c", str(config), "--url", server.url, "--name", name,
            "--registration-token", REGISTRATION_TOKEN,
        )  # fmt: skip
    listed = json.loads((await cli("list", "-c", str(config), "--json")).stdout)
    assert [row["name"] for row in listed] == ["one", "two"]
    assert all("glrtr-made" not in row["token"] for row in listed)
    assert (await cli("verify", "-c", str(config))).returncode == 0
    gone = await cli("unregister", "-c", str(config), "--name", "one")
    assert gone.returncode == 0, gone.stderr
    assert server.runner_tokens == {RUNNER_TOKEN, "glrtr-made-2"}
    assert [r["name"] for r in tomllib.loads(config.read_text())["runners"]] == ["two"]
    server.runner_tokens.clear()
    refused = await cli("verify", "-c", str(config), "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)[0]["is_valid"] is False


async def test_status_tells_running_from_not(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    before = await cli("status", "-c", str(service.config), "--json")
    assert before.returncode == 1 and json.loads(before.stdout)["is_running"] is False
    service.start()
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    now = await cli("status", "-c", str(service.config), "--json")
    assert now.returncode == 0 and json.loads(now.stdout)["state"] == "ready"
    await service.kill()
    after = await cli("status", "-c", str(service.config))
    assert after.returncode == 1 and "not running" in after.stdout


async def test_the_server_is_told_who_asks(server: ProtocolServer, service: RunnerProcess) -> None:
    service.configure(server.url)
    service.start()
    await eventually(lambda: bool(server.last_requests), service.log)
    asked = server.last_requests[0]
    assert asked["token"] == RUNNER_TOKEN
    assert asked["system_id"].startswith("s_")
    assert asked["info"]["name"] == "nautilus-runner"
    features = asked["info"]["features"]
    assert features["trace_checksum"] and features["two_phase_job_commit"] and features["cancel_gracefully"]
    await eventually(lambda: server.last_requests[-1].get("last_update") == "1", service.log)


async def test_several_registrations_share_the_machines_slots(
    server: ProtocolServer, service: RunnerProcess, repositories: Path
) -> None:
    async with ProtocolServer(repositories) as other:
        service.configure(server.url, concurrent=1)
        entry = service.config.read_text().partition("[[runners]]")[2].replace(server.url, other.url)
        service.config.write_text(
            service.config.read_text() + "\n[[runners]]" + entry.replace("bundled", "second")
        )
        service.start()
        jobs = [
            (place, place.add_job(job_payload(["sleep 0.3"]))) for place in (server, other, server, other)
        ]
        for place, job in jobs:
            await place.finished(job)
            assert job.status == "success"


async def test_one_registration_with_a_wrong_address_does_not_stop_the_others(
    server: ProtocolServer, service: RunnerProcess
) -> None:
    service.configure(server.url)
    entry = '\n[[runners]]\nname = "broken"\nurl = "gopher://x"\ntoken = "t"\n'
    service.config.write_text(service.config.read_text() + entry)
    service.start()
    job = server.add_job(job_payload())
    await server.finished(job)
    await eventually(lambda: status_of(service).get("state") == "ready", service.log)
    assert "broken: not an address: 'gopher://x'" in status_of(service)["reason"]


async def test_before_it_has_joined_a_server_status_says_what_to_do(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    said = await cli("status", "--config", str(config))
    assert said.returncode == 1
    assert said.stdout == f"{config} is not there yet: `nautilus-runner register` writes it\n"
    assert (
        said.stderr,
        json.loads((await cli("status", "--json", "--config", str(config))).stdout)["state"],
    ) == (
        "",
        "down",
    )
