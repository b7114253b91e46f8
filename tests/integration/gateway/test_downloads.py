"""Files go out by nginx, named by the service; and by none but the services that may."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.model import Listener, Match, Proxy
from nautilus_gateway.render import render
from nautilus_gateway.testing.programs import free_ports, running_nginx
from nautilus_gateway.testing.stack import Stack

Exchange = Callable[..., bytes]
CANARY = b"the-canary-sings"


@pytest.fixture
def artifact(stack: Stack) -> bytes:
    content = os.urandom(3_000_000)
    folder = stack.home / "forge" / "artifacts"
    folder.mkdir()
    (folder / "a.zip").write_bytes(content)
    (stack.home / "secret").write_bytes(CANARY)
    return content


def test_the_file_that_the_service_names_is_sent(stack: Stack, artifact: bytes) -> None:
    answer = httpx.get(stack.gitlab + "/accel/_forge/artifacts/a.zip")

    assert answer.status_code == 200
    assert answer.content == artifact
    assert answer.headers["content-type"] == "text/x-test"
    assert not [name for name in answer.headers if name.startswith("x-accel")]


def test_a_part_of_it_can_be_asked_for(stack: Stack, artifact: bytes) -> None:
    answer = httpx.get(
        stack.gitlab + "/accel/_forge/artifacts/a.zip", headers={"Range": "bytes=1000000-1000099"}
    )

    assert answer.status_code == 206
    assert answer.content == artifact[1_000_000:1_000_100]
    assert answer.headers["content-range"] == "bytes 1000000-1000099/3000000"


def test_a_file_runs_nothing_in_a_browser(stack: Stack, artifact: bytes) -> None:
    answer = httpx.get(stack.gitlab + "/accel/_forge/artifacts/a.zip")

    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_both_services_send_from_their_own_folder(stack: Stack) -> None:
    (stack.home / "management" / "m.bin").write_bytes(b"tracked")

    assert httpx.get(stack.web + "/accel/_management/m.bin").content == b"tracked"


@pytest.mark.parametrize(
    "path", ["_forge/../secret", "_forge/%2e%2e/secret", "_forge//../secret", "_forge/link"]
)
def test_nothing_outside_the_folder_is_sent(
    stack: Stack, artifact: bytes, exchange: Exchange, path: str
) -> None:
    (stack.home / "forge" / "link").symlink_to(stack.home / "secret")

    answer = exchange(f"GET /accel/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert CANARY not in answer
    assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))


def test_an_upstream_without_a_folder_opens_no_file(stack: Stack, artifact: bytes, tmp_path: Path) -> None:
    """As the answer of a job's own server would be, one day."""
    plain = replace(next(one for one in stack.config.upstreams if one.name == "forge"), files=None)
    web, port = free_ports(2)
    known = Listener("known", web, (Proxy(Match("/"), stack.config.upstreams[1]),))
    other = Listener(
        "other", port, (Proxy(Match("/"), plain), Proxy(Match("/m/"), stack.config.upstreams[1]))
    )
    config = replace(stack.config, listeners=(known, other), pid_file=tmp_path / "pid")
    (tmp_path / "nginx.conf").write_text(render(config))

    with running_nginx(tmp_path / "nginx.conf", port, tmp_path / "log"):
        answer = httpx.get(f"http://127.0.0.1:{port}/accel/_management/m.bin")

    assert (answer.status_code, answer.content) == (200, b"not this")
    assert "x-accel-redirect" not in answer.headers
