"""`nautilus-runner register`, as scripts and images use it: tokens from files, once and no more, late servers."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nautilus_gateway.testing.programs import free_ports
from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.server import REGISTRATION_TOKEN, RUNNER_TOKEN, ProtocolServer

ROOT = Path(__file__).parents[3]


async def register(config: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "nautilus_runner", "register", "-n", "-c", str(config), *options],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runner")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def entries(config: Path) -> list[dict[str, object]]:
    return list(tomllib.loads(config.read_text()).get("runners", []))


async def test_everything_may_come_from_the_environment(server: ProtocolServer, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    done = await register(
        config,
        NAUTILUS_URL=server.url,
        NAUTILUS_RUNNER_TOKEN=RUNNER_TOKEN,
        NAUTILUS_RUNNER_NAME="box",
        NAUTILUS_RUNNER_GPUS="0,1",
        NAUTILUS_RUNNER_CONCURRENT="3",
    )
    assert done.returncode == 0, done.stderr
    found = tomllib.loads(config.read_text())
    assert (found["gpus"], found["concurrent"], found["runners"][0]["name"]) == ("0,1", 3, "box")


async def test_a_token_may_come_from_a_file(server: ProtocolServer, tmp_path: Path) -> None:
    config, secret = tmp_path / "config.toml", tmp_path / "token"
    secret.write_text(RUNNER_TOKEN + "\n")
    done = await register(config, "--url", server.url, "--token-file", str(secret))
    assert done.returncode == 0, done.stderr
    assert entries(config)[0]["token"] == RUNNER_TOKEN
    missing = await register(config, "--url", server.url, "--token-file", str(tmp_path / "none"))
    assert (missing.returncode, "--token-file" in missing.stderr) == (2, True)


async def test_a_second_start_of_an_image_makes_no_second_registration(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    options = ("--if-needed", "--url", server.url + "/", "--token", RUNNER_TOKEN)
    assert (await register(config, *options)).returncode == 0
    again = await register(config, *options)
    assert (again.returncode, "Registered already" in again.stdout) == (0, True)
    assert len(entries(config)) == 1


async def test_another_token_for_the_same_server_takes_the_place_of_the_old_one(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    entry = f'[[runners]]\nname = "old"\nurl = "{server.url}"\ntoken = "glrt-gone"\n'
    config.write_text(f"# by hand\nconcurrent = 2\n\n{entry}")
    done = await register(config, "--if-needed", "--url", server.url, "--token", RUNNER_TOKEN)
    assert done.returncode == 0, done.stderr
    assert [one["token"] for one in entries(config)] == [RUNNER_TOKEN]
    assert "# by hand" in config.read_text()


async def test_a_server_that_is_late_is_waited_for(tmp_path: Path) -> None:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    refused = await register(tmp_path / "config.toml", "--url", url, "--token", RUNNER_TOKEN)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "no answer from" in refused.stderr
    waited = await register(tmp_path / "config.toml", "--url", url, "--token", RUNNER_TOKEN, "--wait", "1")
    assert waited.returncode == 1
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("url", ["localhost:10080", "ml.example.org", "ftp://x"])
async def test_an_address_without_its_scheme_is_told_at_once(url: str, tmp_path: Path) -> None:
    done = await register(tmp_path / "config.toml", "--url", url, "--token", RUNNER_TOKEN)
    assert done.returncode == 2
    assert "write it as http://HOST:PORT" in done.stderr


async def test_a_server_that_is_no_gitlab_is_told(server: ProtocolServer, tmp_path: Path) -> None:
    done = await register(
        tmp_path / "config.toml", "--url", f"{server.url}/elsewhere", "--token", RUNNER_TOKEN
    )
    assert done.returncode == 1
    assert "does not speak GitLab's runner API" in done.stderr and "http://HOST:10080" in done.stderr


def on_a_terminal(answers: dict[str, str], *options: str) -> tuple[int, str]:
    """`register` with a terminal: what is typed when a question stands there; (exit status, all that was shown)."""
    own, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nautilus_runner", "register", *options],
        env=os.environ | {"PYTHONPATH": str(ROOT / "runner"), "TERM": "dumb"},
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
    )
    os.close(theirs)
    shown, left = "", dict(answers)
    try:
        while select.select([own], [], [], 20)[0]:
            try:
                shown += os.read(own, 4096).decode()
            except OSError:  # the other end is closed
                break
            asked = shown.rpartition("\n")[2]
            for question in [q for q in left if q in asked and shown.endswith(": ")]:
                os.write(own, left.pop(question).encode() + b"\n")
        return process.wait(30), shown
    finally:
        process.kill()
        os.close(own)


async def test_on_a_terminal_it_asks_for_what_is_missing(server: ProtocolServer, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    answers = {"URL": server.url, "token": REGISTRATION_TOKEN, "name": "box", "tags": "a,b", "Executor": ""}
    code, shown = await asyncio.to_thread(on_a_terminal, answers, "-c", str(config))
    assert code == 0, shown
    assert REGISTRATION_TOKEN not in shown
    [asked] = server.registered
    assert (asked["description"], asked["tag_list"], asked["run_untagged"]) == ("box", "a,b", False)
    assert entries(config)[0]["executor"] == "process"


async def test_either_token_may_be_given_as_the_token(server: ProtocolServer, tmp_path: Path) -> None:
    for number, token in enumerate((RUNNER_TOKEN, REGISTRATION_TOKEN)):
        config = tmp_path / f"{number}.toml"
        done = await register(config, "--server", server.url, "--token", token, "--tag", "x", "--slots", "2")
        assert done.returncode == 0, done.stderr
        assert tomllib.loads(config.read_text())["concurrent"] == 2
    assert len(server.registered) == 1


async def test_a_worker_of_another_kind_joins_by_its_own_variables(
    server: ProtocolServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    known = {"DIOPTRA_API": server.url, "DIOPTRA_WORKER_USERNAME": "tensorflow-cpu"}
    done = await register(config, **known, DIOPTRA_WORKER_PASSWORD=RUNNER_TOKEN)
    assert done.returncode == 0, done.stderr
    assert entries(config)[0]["name"] == "tensorflow-cpu"
    refused = await register(tmp_path / "none.toml", **known, DIOPTRA_WORKER_PASSWORD="hunter2")
    assert refused.returncode == 2
    assert "workers have tokens here" in refused.stderr and "hunter2" not in refused.stderr


async def test_a_service_without_a_file_serves_what_its_environment_names(
    server: ProtocolServer, tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "runner"),
        "NAUTILUS_URL": server.url,
        "NAUTILUS_RUNNER_TOKEN": RUNNER_TOKEN,
        "NAUTILUS_RUNNER_CONCURRENT": "3",
        "NAUTILUS_RUNNER_CONFIG": str(tmp_path / "config.toml"),
        "NAUTILUS_RUNNER_PROCESS_USER": "",
        "NAUTILUS_RUNNER_PROCESS_SANDBOX": "off",
    }
    command = [sys.executable, "-m", "nautilus_runner"]
    process = subprocess.Popen([*command, "run"], env=environ, stderr=subprocess.DEVNULL)
    try:
        job = server.add_job(job_payload(["echo served"]))
        await server.until(lambda: job.claims == 1)
        told = await asyncio.to_thread(
            subprocess.run, [*command, "status", "--json"], env=environ, capture_output=True, timeout=20
        )
        assert json.loads(told.stdout)["slots"]["total"] == 3
    finally:
        process.send_signal(signal.SIGQUIT)
        await asyncio.to_thread(process.wait, 30)
    assert not (tmp_path / "config.toml").exists()
