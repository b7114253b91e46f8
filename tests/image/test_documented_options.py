"""Other ways to run it, by the commands of the how-tos: IPv6, few rights, another place for the data."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nautilus.testing.containers import docker
from nautilus.testing.documents import console_command, elsewhere
from nautilus.testing.in_docker import Container

pytestmark = [pytest.mark.image, pytest.mark.timeout(180)]


@pytest.fixture
def name(prefix: str) -> Iterator[str]:
    """The container that the documents call `nautilus`; it and its volume go at the test's end."""
    yield f"{prefix}-nautilus"
    docker("rm", "-f", f"{prefix}-nautilus", check=False)
    docker("volume", "rm", "-f", f"{prefix}-nautilus-data", check=False)


def test_on_a_network_with_ipv6_it_answers_there(
    name: str, prefix: str, address: str, lite_image: str
) -> None:
    document = "docs/how-to/separate-network.md"
    network = console_command(document, "network", "create", "--ipv6")
    subnet = f"fd00:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::/64"
    at = network.index("--subnet") + 1
    docker(*network[1:at], subnet, *network[at + 1 : -1], f"{prefix}-{network[-1]}")
    container = Container(
        name, address, elsewhere(console_command(document, "run", network[-1]), prefix, address, lite_image)
    )
    container.start()
    [attached] = container.inspect()["NetworkSettings"]["Networks"].values()
    inside = attached["GlobalIPv6Address"]
    assert inside.startswith(subnet[:14])
    for port in ("", ":10080"):
        assert httpx.get(f"http://[{inside}]{port}/-/health", timeout=10).status_code == 200
    with socket.create_connection((inside, 22), timeout=10) as ssh:
        assert ssh.recv(4) == b"SSH-"


def test_with_few_rights_it_serves_pages_git_and_ssh(
    name: str, prefix: str, address: str, lite_image: str, tmp_path: Path
) -> None:
    command = console_command("docs/how-to/run-in-docker.md", "run", "--cap-drop")
    container = Container(name, address, elsewhere(command, prefix, address, lite_image))
    container.start()
    assert container.inspect()["HostConfig"]["CapDrop"] == ["ALL"]
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with container.api() as api:
        public = {"title": "laptop", "key": key.with_suffix(".pub").read_text()}
        assert api.post("/api/v4/user/keys", json=public).status_code == 201
    options = ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path}/known")
    argv = ["ssh", "-T", "-i", str(key), *(f"-o{option}" for option in options), f"git@{address}"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert "Welcome to GitLab, @root!" in said.stdout + said.stderr
    assert container.stop() <= 10


def test_data_moves_from_a_volume_to_a_folder(
    name: str, prefix: str, address: str, lite_image: str, host_folder: Path
) -> None:
    document = "docs/how-to/bind-mounts.md"
    start = (
        "run",
        "--detach",
        "--name",
        name,
        "--publish",
        f"{address}:80:80",
        "--env",
        "NAUTILUS_BUNDLED_RUNNER=off",
    )
    before = Container(
        name, address, [*start, "--volume", f"{prefix}-mlreefdb-opt:/var/opt/mlreef", lite_image]
    )
    before.start()
    password = before.secret("root_password")
    before.stop()
    copy = console_command(document, "run", "cp")
    words = elsewhere([*copy[: copy.index("cp")]], prefix, address, lite_image, host_folder)
    docker(*words, *copy[copy.index("cp") :])
    volume = f"{host_folder}/nautilus:/var/opt/nautilus"
    after = Container(name, address, [*start, "--volume", volume, lite_image])
    after.start()
    assert after.secret("root_password") == password
