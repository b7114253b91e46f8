"""The image of the full edition: built with a stand-in for GitLab's package (its layout, our forge inside), booted,
used, stopped, started, thrown away and made again on the same volumes."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gitlab
import httpx
import pytest

from nautilus.appliance.layout import PROJECT_ROOT
from nautilus.testing.containers import docker
from nautilus.testing.omnibus.package import VERSION, build

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]

READY_WITHIN_S = 120


def docker_build(name: str, *options: str, timeout_s: float = 900) -> str:
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    secret = ("--secret", f"id=ca,src={bundle}") if Path(bundle).exists() else ()
    where = ("--target", "full", "--tag", name, str(PROJECT_ROOT))
    return docker("build", "-q", *secret, *options, *where, timeout_s=timeout_s)


@pytest.fixture(scope="module")
def package_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a build finds the stand-in's .deb: a mirror on the bridge's own address."""
    folder = tmp_path_factory.mktemp("mirror")
    build(folder / "gitlab-ce.deb")
    bridge = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer((bridge, 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{bridge}:{server.server_port}/gitlab-ce.deb"
    server.shutdown()


@pytest.fixture(scope="module")
def full_image(lite_image: str, package_url: str) -> str:
    """On the layers of the lite image."""
    name = "nautilus:test-full-with-stand-in"
    docker_build(name, "--build-arg", f"GITLAB_DEB_URL={package_url}")
    return name


def volumes(prefix: str) -> list[str]:
    places = {"data": "/var/opt/mlreef", "gitlab": "/var/opt/gitlab", "etc": "/etc/gitlab"}
    return [part for name, path in places.items() for part in ("--volume", f"{prefix}-{name}:{path}")]


def start(prefix: str, image: str, address: str) -> None:
    docker(
        *("run", "-d", "--name", f"{prefix}-full", *volumes(prefix)),
        *("--publish", f"{address}:80:80", "--publish", f"{address}:10080:10080"),
        *("--env", f"NAUTILUS_EXTERNAL_URL=http://{address}", image),
    )
    wait_ready(prefix, address)


def wait_ready(prefix: str, address: str) -> None:
    """Ready but for the runner, which has no Docker socket here."""
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = ["nothing answers"]
    while time.monotonic() < deadline:
        try:
            health = httpx.get(f"http://{address}/-/health", timeout=5).json()
            waiting = [c["name"] for c in health["components"] if c["state"] != "ready"]
            if waiting in ([], ["runner"]):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not ready ({waiting}): {docker('logs', '--tail', '40', f'{prefix}-full')}")


def inside(prefix: str, *command: str) -> str:
    return docker("exec", f"{prefix}-full", *command)


def api(prefix: str, address: str) -> gitlab.Gitlab:
    token = inside(prefix, "cat", "/var/opt/nautilus/secrets/admin_token").strip()
    return gitlab.Gitlab(f"http://{address}:10080", private_token=token)


@pytest.fixture(scope="module")
def running(full_image: str, prefix: str, address: str) -> str:
    start(prefix, full_image, address)
    return full_image


def test_a_package_of_another_version_is_refused(lite_image: str, package_url: str) -> None:
    options = ("--build-arg", f"GITLAB_DEB_URL={package_url}", "--build-arg", "GITLAB_VERSION=19.4.0-ce.0")
    with pytest.raises(AssertionError, match=r"wanted is gitlab-ce 19\.4\.0-ce\.0"):
        docker_build("nautilus:test-never", *options)


def test_a_package_that_is_not_what_was_meant_is_refused(lite_image: str, package_url: str) -> None:
    options = ("--build-arg", f"GITLAB_DEB_URL={package_url}", "--build-arg", f"GITLAB_DEB_SHA256={'0' * 64}")
    with pytest.raises(AssertionError, match="did NOT match"):
        docker_build("nautilus:test-never", *options)


def test_the_build_configures_and_starts_nothing(full_image: str) -> None:
    listed = docker(
        "run", "--rm", "--entrypoint", "ls", full_image, "-A", "/etc/gitlab", "/opt/gitlab/service"
    )
    assert listed.split() == ["/etc/gitlab:", "/opt/gitlab/service:"]
    image = json.loads(docker("image", "inspect", full_image))[0]
    assert "NAUTILUS_EDITION=full" in image["Config"]["Env"]
    assert image["Config"]["Labels"]["org.nautilus.gitlab.version"] == f"{VERSION}-ce.0"


def test_it_is_ready_with_gitlab_in_the_forges_place(running: str, prefix: str, address: str) -> None:
    components = {c["name"]: c["state"] for c in httpx.get(f"http://{address}/-/health").json()["components"]}
    assert components["gitlab"] == "ready" and "forge" not in components
    server = api(prefix, address)
    server.auth()
    assert server.user is not None and server.user.username == "root"


def test_each_program_runs_as_its_own_user(running: str, prefix: str) -> None:
    lines = [line.split(None, 1) for line in inside(prefix, "ps", "-eo", "user,args").splitlines()[1:]]
    users = {user for user, command in lines if "nautilus_forge" in command}
    assert users == {"git"}
    assert {user for user, command in lines if command.startswith("postgres: gitlab")} == {"nautilus"}
    state = inside(prefix, "stat", "-c", "%U:%G:%a", "/var/opt/nautilus/run/gitlab-postgres").strip()
    assert state == "nautilus:git:750"


def test_gitlabs_user_reaches_gitlabs_database_and_no_other(running: str, prefix: str) -> None:
    where = "postgresql://gitlab@/{}?host=/var/opt/nautilus/run/gitlab-postgres"
    ask = (
        "setpriv",
        "--reuid",
        "git",
        "--regid",
        "git",
        "--init-groups",
        "psql",
        "-Atc",
        "select current_user",
    )
    assert inside(prefix, *ask, where.format("gitlabhq_production")).strip() == "gitlab"
    for database in (where.format("nautilus"), where.format("nautilus").replace("gitlab@", "nautilus@")):
        refused = docker("exec", f"{prefix}-full", *ask, database, check=False)
        assert refused == ""


def test_a_stop_is_clean_within_dockers_ten_seconds_and_a_start_configures_nothing(
    running: str, prefix: str, address: str
) -> None:
    api(prefix, address).projects.create({"name": "kept", "initialize_with_readme": True})
    began = time.monotonic()
    docker("stop", f"{prefix}-full")
    assert time.monotonic() - began < 10
    assert json.loads(docker("inspect", f"{prefix}-full"))[0]["State"]["ExitCode"] == 0
    docker("start", f"{prefix}-full")
    wait_ready(prefix, address)
    log = inside(prefix, "cat", "/var/opt/nautilus/log/gitlab.log")
    assert log.count("gitlab: configuring") == 1
    assert "root/kept" in {p.path_with_namespace for p in api(prefix, address).projects.list(all=True)}


def test_another_container_on_the_same_volumes_is_the_same_appliance(
    running: str, prefix: str, address: str
) -> None:
    before = [runner.id for runner in api(prefix, address).runners_all.list(all=True)]
    docker("rm", "-f", f"{prefix}-full")
    start(prefix, running, address)
    assert "root/kept" in {p.path_with_namespace for p in api(prefix, address).projects.list(all=True)}
    assert [runner.id for runner in api(prefix, address).runners_all.list(all=True)] == before
    assert inside(prefix, "cat", "/var/opt/nautilus/log/gitlab.log").count("gitlab: configuring") == 2


def test_the_lite_image_refuses_these_volumes(running: str, lite_image: str, prefix: str) -> None:
    docker("stop", f"{prefix}-full")
    done = subprocess.run(
        ["docker", "run", "--rm", *volumes(prefix), lite_image], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 7
    assert "of the full edition, this is the lite one" in done.stderr


def test_an_image_exports_what_it_will_not_start_and_new_volumes_take_it(
    running: str, prefix: str, address: str, host_folder: Path
) -> None:
    exports = ("--volume", f"{host_folder}:/exports")
    docker(
        "run",
        "--rm",
        *volumes(prefix),
        *exports,
        running,
        "nautilus",
        "export",
        "/exports/now",
        timeout_s=300,
    )
    docker("rm", "-f", f"{prefix}-full")
    other = f"{prefix}-other"
    docker(
        "run", "--rm", *volumes(other), *exports, running, "nautilus", "import", "/exports/now", timeout_s=300
    )
    start(other, running, address)
    assert "root/kept" in {p.path_with_namespace for p in api(other, address).projects.list(all=True)}
