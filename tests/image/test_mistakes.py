"""A wrong `docker run` ends with one line that says what to do; one that can be lived with is told in the log."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nautilus.testing.containers import docker
from nautilus.testing.in_docker import Container, wait_for

pytestmark = [pytest.mark.image, pytest.mark.timeout(120)]

HOME = "/var/opt/nautilus"


def refusal(image: str, *options: str) -> str:
    """What a start with these options says before it ends; it must end, not with code 0, in one line."""
    done = subprocess.run(
        ["docker", "run", "--rm", *options, image], capture_output=True, text=True, timeout=60
    )
    assert done.returncode not in (0, 125, 126, 127), done.stdout + done.stderr
    said = (done.stdout + done.stderr).strip()
    assert "Traceback" not in said and "Error:" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-v", "{p}-a:/var/opt/nautilus", "-v", "{p}-b:/var/opt/mlreef"), "one would hide the other"),
        (("-v", "{p}-c:/var/opt/nautilus:ro"), "mount it writable"),
        (("--tmpfs", "/var/opt/nautilus:size=100m"), "at least 512 are needed"),
        (("--user", "1000:1000"), "start without --user"),
        (("--env", "NAUTILUS_EXTERNAL_URL=ml.example.org"), "NAUTILUS_EXTERNAL_URL"),
        (("--env", "NAUTILUS_SLOTS=many"), "NAUTILUS_SLOTS"),
    ],
    ids=["two volumes", "a read-only volume", "a full volume", "a nameless user", "an address", "a number"],
)
def test_it_is_refused_with_one_line(
    lite_image: str, prefix: str, options: tuple[str, ...], says: str
) -> None:
    assert says in refusal(lite_image, *(option.format(p=prefix) for option in options))


def test_a_folder_that_the_service_user_may_not_enter_is_refused(lite_image: str, host_folder: Path) -> None:
    assert "give this user write access to it" in refusal(
        lite_image, "--user", "990:990", "-v", f"{host_folder}:{HOME}"
    )


def test_a_second_container_on_the_same_volume_is_refused(lite_image: str, prefix: str) -> None:
    volume = ("-v", f"{prefix}-one:{HOME}")
    docker("run", "-d", "--name", f"{prefix}-first", *volume, lite_image)
    log = Path(docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{prefix}-one").strip()) / "lock"
    wait_for("the first one holds it", log.exists)
    assert "already runs" in refusal(lite_image, *volume)
    docker("rm", "-f", f"{prefix}-first")


@pytest.fixture
def started(lite_image: str, prefix: str, address: str) -> Iterator[Callable[..., Container]]:
    """Starts an appliance with these options and waits until it is ready; it goes at the test's end."""
    name = f"{prefix}-one"

    def start(*options: str) -> Container:
        argv = ["run", "-d", "--name", name, "--publish", f"{address}:80:80", *options, lite_image]
        container = Container(name, address, argv)
        container.start()
        return container

    yield start
    docker("rm", "-f", "-v", name, check=False)


def test_without_a_socket_health_names_the_runner_and_the_log_says_what_to_add(
    lite_image: str, prefix: str
) -> None:
    name = f"{prefix}-alone"
    docker("run", "-d", "--name", name, lite_image)
    wait_for(
        "only the runner is not ready",
        lambda: docker("exec", name, "sh", "-c", "nautilus healthcheck 2>&1; true").startswith(
            "nautilus: runner: "
        ),
    )
    assert "no Docker daemon" in docker("exec", name, "sh", "-c", "nautilus doctor; true")
    log = docker("logs", name)
    assert "no Docker socket at /var/run/docker.sock: add `--volume" in log
    docker("rm", "-f", name)


def test_without_a_bundled_runner_it_is_ready_without_a_socket(started: Callable[..., Container]) -> None:
    log = started("--env", "NAUTILUS_BUNDLED_RUNNER=off").logs(400)
    assert f"no volume is mounted at {HOME}" in log
    assert "docker.sock" not in log


def test_a_read_only_container_serves_from_its_volume(started: Callable[..., Container], prefix: str) -> None:
    options = ("--read-only", "--tmpfs", "/tmp", "--volume", f"{prefix}-ro:{HOME}")
    started(*options, "--env", "NAUTILUS_BUNDLED_RUNNER=off")


def test_as_the_service_user_it_serves_from_a_volume_of_that_owner(
    started: Callable[..., Container], prefix: str, lite_image: str
) -> None:
    volume = ("--volume", f"{prefix}-user:{HOME}")
    docker("run", "--rm", *volume, lite_image, "chown", "990:990", HOME)
    started("--user", "990:990", *volume, "--env", "NAUTILUS_BUNDLED_RUNNER=off")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to a group")
def test_a_socket_of_a_group_that_the_image_does_not_know_is_used(
    started: Callable[..., Container], lite_image: str, prefix: str, tmp_path: Path
) -> None:
    """The real socket, behind one of another group: jobs' executor is found ready."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        os.chown(path, 0, 61999)
        path.chmod(0o660)
        listening.listen()
        threading.Thread(target=_forward, args=(listening,), daemon=True).start()
        container = started("--volume", f"{path}:/var/run/docker.sock", "--volume", f"{prefix}-group:{HOME}")
        assert "docker-host-61999" in docker("exec", container.name, "id", "-Gn", "nautilus-runner")
        assert "61999" not in docker("exec", container.name, "id", "-G", "nautilus")
    options = ("--read-only", "--tmpfs", "/tmp", "--volume", f"{path}:/var/run/docker.sock")
    assert "--read-only" in refusal(lite_image, *options)


def _forward(listening: socket.socket) -> None:
    """Passes each connection on to the real daemon."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect("/var/run/docker.sock")
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_a_clock_behind_the_last_run_is_told(lite_image: str, prefix: str) -> None:
    """The host's clock cannot be set in a test: the appliance's last sign of life is put ahead instead."""
    docker("volume", "create", f"{prefix}-clock")
    folder = Path(docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{prefix}-clock").strip())
    (folder / "etc").mkdir()
    (folder / "etc" / "appliance.json").write_text("{}")
    os.utime(folder / "etc" / "appliance.json", (time.time() + 7200,) * 2)
    docker("run", "-d", "--name", f"{prefix}-clock", "-v", f"{prefix}-clock:{HOME}", lite_image)
    wait_for("it is told", lambda: "set the host's clock" in docker("logs", f"{prefix}-clock"))
    docker("rm", "-f", f"{prefix}-clock")
