"""Addresses are asked from where they are used; what is wrong is told apart, since each has another way out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nautilus.appliance.executor import Choice
from nautilus.appliance.plan import make_plan
from nautilus.appliance.reachability import (
    NotProbed,
    Target,
    probe_here,
    probe_in_container,
    targets_of_jobs,
    targets_of_people,
)
from nautilus.appliance.settings import ApplianceSettings
from nautilus.testing.containers import docker, has_daemon
from nautilus_gateway import Ports
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, short_home
from nautilus_gateway.testing.stack import running_stack

IMAGE = "nautilus-job"


class Ours(BaseHTTPRequestHandler):
    """What the appliance says at the addresses that are asked."""

    def do_GET(self) -> None:
        answers = {
            "/-/health": (200, {"ready": True, "components": []}),
            "/api/v4/version": (401, {"message": "401 Unauthorized"}),
            "/v2/": (401, {"errors": []}),
            "/-/nautilus": (200, 1234),
        }
        status, body = answers.get(self.path, (404, {}))
        self.send_response(status)
        if self.path == "/v2/":
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Foreign(Ours):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<h1>It works!</h1>")


@pytest.fixture
def serve() -> Iterator[object]:
    servers = []

    def start(handler: type[BaseHTTPRequestHandler] = Ours, address: str = "127.0.0.1") -> int:
        server = ThreadingHTTPServer((address, 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def target(url: str, kind: str = "pages") -> Target:
    return Target("it", url, kind, "NAUTILUS_EXTERNAL_URL")


def failure(one: Target, ca: str = "") -> str:
    [answer] = probe_here([one], ca)
    return answer.failure


@pytest.mark.parametrize("kind", ["pages", "gitlab", "registry"])
def test_the_right_answer_is_none_of_the_failures(serve, kind: str) -> None:  # type: ignore[no-untyped-def]
    assert failure(target(f"http://127.0.0.1:{serve()}", kind)) == ""


@pytest.mark.parametrize("kind", ["pages", "gitlab", "registry"])
def test_another_server_is_told_from_ours(serve, kind: str) -> None:  # type: ignore[no-untyped-def]
    assert failure(target(f"http://127.0.0.1:{serve(Foreign)}", kind)) == "other"


@pytest.mark.parametrize("kind", ["pages", "gitlab"])
def test_another_appliance_is_told_from_this_one(serve, kind: str) -> None:  # type: ignore[no-untyped-def]
    asked = [target(f"http://127.0.0.1:{serve()}", kind)]
    assert probe_here(asked, "", "1234")[0].failure == ""
    assert probe_here(asked, "", "5678")[0].detail == "another Nautilus answers there"


def test_a_name_that_is_not_known_and_a_port_where_nothing_listens() -> None:
    [closed] = free_ports(1)
    assert failure(target("http://no-such-host.invalid")) == "name"
    assert failure(target(f"http://127.0.0.1:{closed}")) == "connect"
    assert failure(target(f"ssh://127.0.0.1:{closed}", "ssh")) == "connect"


def test_an_http_server_is_no_ssh_server(serve) -> None:  # type: ignore[no-untyped-def]
    [answer] = probe_here([target(f"ssh://127.0.0.1:{serve()}", "ssh")], "")
    assert answer.failure in ("other", "connect")


def test_a_certificate_is_trusted_only_with_its_ca(tmp_path: Path) -> None:
    tls = self_signed(tmp_path, "DNS:localhost")
    ports = Ports(*free_ports(4))
    with short_home() as home, running_stack(home, ports=ports, tls=tls):
        url = target(f"https://localhost:{ports.web_tls}")
        assert failure(url) == "tls"
        assert failure(target(f"https://127.0.0.1:{ports.web_tls}"), tls.certificate.read_text()) == "tls"
        assert failure(url, tls.certificate.read_text()) == "other", "the stand-in's health is another's"


def test_what_is_asked_follows_the_plan() -> None:
    settings = ApplianceSettings(Path("/x"), external_url="http://ml.example.org", in_image=True)
    choice = Choice("docker", "there", "img", "net", ("nautilus:172.18.0.2",), "nautilus")
    plan = make_plan(settings, None, choice)
    assert [one.url for one in targets_of_jobs(plan)] == ["http://nautilus:80", "http://nautilus:10080"]
    assert [one.url for one in targets_of_people(plan, has_registry=True, has_ssh=True)] == [
        "http://ml.example.org",
        "http://ml.example.org:10080",
        "http://ml.example.org:5050",
        "ssh://ml.example.org:22",
    ]


@pytest.mark.docker
def test_a_job_s_container_is_another_place(serve) -> None:  # type: ignore[no-untyped-def]
    if not has_daemon() or not docker("images", "-q", IMAGE).strip():
        pytest.skip(f"no Docker daemon with {IMAGE}")
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    here, bridge = serve(), serve(Ours, gateway)
    targets = [
        target(f"http://127.0.0.1:{here}"),
        target(f"http://nautilus:{bridge}"),
        target("http://nobody:1"),
    ]

    told = probe_in_container(targets, "", IMAGE, "", [f"nautilus:{gateway}"])
    on_the_host = probe_in_container(targets[:1], "", IMAGE, "host", [])

    assert [answer.failure for answer in told] == ["connect", "", "name"]
    assert [answer.failure for answer in on_the_host] == [""]
    assert docker("ps", "-aq", "--filter", "label=nautilus.probe").strip() == ""


@pytest.mark.docker
def test_an_image_that_cannot_ask_is_said_to() -> None:
    if not has_daemon():
        pytest.skip("no Docker daemon")
    with pytest.raises(NotProbed):
        probe_in_container([target("http://127.0.0.1")], "", "no-such-image-of-nautilus", "", [])
