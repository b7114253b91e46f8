"""The images, built once per run from the checkout; their base is bootstrapped where no registry is at hand."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker, has_daemon

BASE = "debian:trixie-slim"


def run_script(*argv: str, timeout_s: float) -> None:
    done = subprocess.run(
        argv, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=timeout_s, env=os.environ
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout[-1500:]}{done.stderr[-3000:]}"


def ensure_base() -> None:
    if docker("images", "-q", BASE).strip():
        return
    if not shutil.which("mmdebstrap"):
        pytest.skip(f"{BASE} is not on this machine and mmdebstrap, to make it, is not installed")
    run_script("image/make-base", BASE, timeout_s=300)


@pytest.fixture(scope="session")
def build_image() -> Callable[[str], str]:
    """Builds a target of the Dockerfile; returns the image's name."""
    if not has_daemon():
        pytest.skip("no Docker daemon answers")
    ensure_base()

    def build(target: str) -> str:
        name = f"nautilus:test-{target}"
        run_script("image/build", target, "--quiet", "--tag", name, timeout_s=900)
        return name

    return build


@pytest.fixture(scope="session")
def lite_image(build_image: Callable[[str], str]) -> str:
    return build_image("lite")


@pytest.fixture(scope="module")
def address() -> str:
    """A loopback address of this machine for one appliance's ports: so they are the usual ones, whoever else runs."""
    noise = random.SystemRandom()
    return f"127.{noise.randint(10, 250)}.{noise.randint(0, 255)}.{noise.randint(2, 250)}"


@pytest.fixture(scope="module")
def prefix() -> Iterator[str]:
    """Starts the name of every container, volume and network of a module; they go when it ends."""
    name = f"nautilus-test-{uuid.uuid4().hex[:8]}"
    yield name
    remove_what_runners_left(name)
    for kind, remove in (("ps -a", "rm -f -v"), ("volume ls", "volume rm -f"), ("network ls", "network rm")):
        column = "{{.Names}}" if kind == "ps -a" else "{{.Name}}"
        listed = docker(*kind.split(), "--filter", f"name={name}", "--format", column, check=False).split()
        if listed:
            docker(*remove.split(), *listed, check=False)


def remove_what_runners_left(prefix: str) -> None:
    """Networks of jobs and the ways to the server, of appliances that were removed without being stopped."""
    listed = docker("volume", "ls", "-q", "--filter", f"name={prefix}", check=False).split()
    places = (
        docker("volume", "inspect", "--format", "{{.Mountpoint}}", *listed, check=False) if listed else ""
    )
    for place in places.splitlines():
        system_id = Path(place) / "runner" / "system_id"
        if os.access(system_id, os.R_OK):
            label = f"label=org.nautilus.runner.system-id={system_id.read_text().strip()}"
            for kind, remove in (("ps -aq", "rm -f -v"), ("network ls -q", "network rm")):
                if found := docker(*kind.split(), "--filter", label, check=False).split():
                    docker(*remove.split(), *found, check=False)


@pytest.fixture(scope="session")
def host_folder() -> Iterator[Path]:
    """A folder of the host that only root may enter, for bind mounts; its content may be of any owner."""
    if os.geteuid() != 0:
        pytest.skip("bind mounts of any ownership: only root can make them")
    folder = Path(f"/root/nautilus-test-{uuid.uuid4().hex[:8]}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)
