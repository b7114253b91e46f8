"""The full edition's gateway: GitLab's Workhorse gets requests as it would from GitLab's own nginx."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus_gateway.model import Limits
from nautilus_gateway.testing.programs import short_home
from nautilus_gateway.testing.stack import Stack, running_stack

HELD = threading.Event()


class Workhorse(BaseHTTPRequestHandler):
    """Answers with what it got; streams `/stream` in two parts, switches protocols on `/-/cable`."""

    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/-/cable":
            self.send_response(101)
            self.send_header("Upgrade", self.headers["Upgrade"])
            self.send_header("Connection", "upgrade")
            self.end_headers()
            self.wfile.write(self.rfile.readline().upper())
            return
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"first")
            self.wfile.flush()
            HELD.wait(10)
            self.wfile.write(b"after")
            return
        answer = json.dumps({"headers": dict(self.headers), "path": self.path, "bytes": len(body)}).encode()
        self.send_response(200)
        for name, value in (
            ("X-Accel-Redirect", "/_management/secret"),
            ("Content-Length", str(len(answer))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = handle_one

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with short_home() as home:
        workhorse = home / "run" / "workhorse.sock"
        server = Server(str(workhorse), Workhorse)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running_stack(home, gitlab_socket=workhorse, limits=Limits(body_mib=1)) as found:
            yield found
        server.shutdown()
        server.server_close()


def asked(stack: Stack, path: str, **more: Any) -> dict[str, Any]:
    answer = httpx.get(f"{stack.gitlab}{path}", **more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    "path", ["/", "/-/health", "/a/b.git/info/refs", "/internal/x", "/explore", "/users/sign_in"]
)
def test_gitlabs_own_port_is_all_gitlabs(stack: Stack, path: str) -> None:
    assert asked(stack, path)["path"] == path


@pytest.mark.parametrize(
    "path", ["/api/v4/version", "/users/sign_in", "/oauth/authorize", "/assets/a.css", "/-/x"]
)
def test_the_web_port_has_what_sign_in_needs(stack: Stack, path: str) -> None:
    assert httpx.get(f"{stack.web}{path}").json()["path"] == path


@pytest.mark.parametrize("path", ["/", "/experiments", "/-/health", "/api/v1/projects"])
def test_the_rest_of_the_web_port_is_managements(stack: Stack, path: str) -> None:
    stack.management.forget()
    httpx.get(f"{stack.web}{path}")
    assert [one.path for one in stack.management.seen] == [path]


def test_gitlab_hears_who_speaks_from_the_gateway_alone(stack: Stack) -> None:
    forged = {
        "X-Forwarded-For": "10.1.2.3",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Ssl": "on",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Scheme": "https",
        "X-Real-IP": "10.1.2.3",
        "Client-IP": "10.1.2.3",
        "Forwarded": "for=10.1.2.3",
    }
    heard = {name.lower(): value for name, value in asked(stack, "/x", headers=forged)["headers"].items()}
    assert heard["x-forwarded-for"] == heard["x-real-ip"] == "127.0.0.1"
    assert heard["x-forwarded-proto"] == "http"
    assert not {"forwarded", "client-ip", "x-forwarded-ssl", "x-forwarded-port", "x-forwarded-scheme"} & set(
        heard
    )


def test_headers_that_we_do_not_know_go_through(stack: Stack) -> None:
    heard = asked(
        stack, "/x", headers={"X-GitLab-New": "1", "Gitlab-Shell-Api-Request": "2", "Cookie": "a=b"}
    )
    assert {"X-GitLab-New", "Gitlab-Shell-Api-Request", "Cookie"} <= set(heard["headers"])


def test_gitlabs_answer_opens_no_file_of_ours(stack: Stack) -> None:
    (stack.home / "management" / "secret").write_text("a secret")
    assert "a secret" not in httpx.get(f"{stack.gitlab}/x").text


def test_a_body_beyond_the_other_ports_limit_goes_through_and_is_not_written_down(stack: Stack) -> None:
    body = b"x" * (5 << 20)
    answer = httpx.post(f"{stack.gitlab}/api/v4/projects/1/uploads", content=body, timeout=60)
    assert answer.json()["bytes"] == len(body)
    assert httpx.post(f"{stack.api}/api/v1/projects", content=body).status_code == 413
    assert not [path for path in (stack.home / "spool").rglob("*") if path.is_file()]


def test_an_answer_is_passed_on_as_it_comes(stack: Stack) -> None:
    HELD.clear()
    with httpx.stream("GET", f"{stack.gitlab}/stream", timeout=10) as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"
        HELD.set()
        assert next(parts) == b"after"


def test_a_websocket_goes_through(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), timeout=10) as client:
        head = "GET /-/cable HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        client.sendall(head.encode())
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101")
        client.sendall(b"ping\n")
        while b"PING" not in answer:
            more = client.recv(4096)
            assert more, answer
            answer += more


def test_while_gitlab_is_down_it_is_called_by_its_name(tmp_path: Path) -> None:
    with short_home() as home, running_stack(home, gitlab_socket=home / "run" / "nobody.sock") as stack:
        answer = httpx.get(f"{stack.gitlab}/root/digits", headers={"Accept": "application/json"})
        assert answer.status_code == 503
        assert {"name": "gitlab", "state": "down", "detail": "GitLab does not answer"} in answer.json()[
            "components"
        ]
