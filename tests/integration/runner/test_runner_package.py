"""`pip install ".[runner]"`: a fresh environment has `nautilus-runner`, and nothing of the server's."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nautilus_runner.testing.payloads import job_payload
from nautilus_runner.testing.server import RUNNER_TOKEN, ProtocolServer

ROOT = Path(__file__).parents[3]
SERVER_ONLY = {
    "alembic",
    "argon2-cffi",
    "fastapi",
    "jinja2",
    "psycopg",
    "python-gitlab",
    "sqlalchemy",
    "supervisor",
}

# Slow, as it installs packages: it belongs to the tier of the images, whose sibling this way of joining is.
pytestmark = [pytest.mark.image, pytest.mark.timeout(400)]


def run(*argv: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=300)


def run_with_index(*argv: str | Path, cwd: Path | None = None) -> None:
    done = run(*argv, cwd=cwd)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        if any(
            word in done.stderr for word in ("NewConnectionError", "No matching distribution", "Max retries")
        ):
            pytest.skip(f"the package index cannot be reached: {last}")
        raise AssertionError(done.stderr[-3000:])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel and what runner.lock names, and with nothing else."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name in ("services", "gateway", "runner"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    venv = folder / "venv"
    assert run(sys.executable, "-m", "venv", venv).returncode == 0
    pip = venv / "bin" / "pip"
    run_with_index(pip, "wheel", "-q", "--no-deps", "-w", folder / "wheel", source)
    run_with_index(pip, "install", "-q", "--require-hashes", "-r", ROOT / "requirements/runner.lock")
    [wheel] = (folder / "wheel").glob("nautilus-*.whl")
    # --no-index: whatever the extra asks for must be in the lock
    done = run(pip, "install", "-q", "--no-index", f"{wheel}[runner]")
    assert done.returncode == 0, done.stderr
    return venv


def test_the_command_is_there_and_no_package_of_the_server(environment: Path) -> None:
    version = run(environment / "bin/nautilus-runner", "version")
    assert version.stdout.startswith("nautilus-runner "), version.stderr
    listed = json.loads(run(environment / "bin/pip", "list", "--format", "json").stdout)
    assert SERVER_ONLY.isdisjoint({package["name"].lower() for package in listed})


async def test_it_registers_and_runs_a_job(environment: Path, server: ProtocolServer, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    command = str(environment / "bin/nautilus-runner")
    secret = tmp_path / "token"
    secret.write_text(RUNNER_TOKEN)
    registering = [
        command,
        "register",
        "-n",
        "-c",
        str(config),
        "--url",
        server.url,
        "--token-file",
        str(secret),
    ]
    done = await asyncio.to_thread(run, *registering, "--process-user", "")
    assert done.returncode == 0, done.stderr
    job = server.add_job(job_payload(["echo from a wheel"]))
    service = subprocess.Popen([command, "run", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        await server.finished(job)
        assert b"from a wheel" in job.trace
    finally:
        service.terminate()
        service.wait(20)
