"""A second nginx in front, with the very configuration of docs/how-to/reverse-proxy.md, that ends TLS."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.model import Tls
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, running_nginx, short_home
from nautilus_gateway.testing.stack import Stack, git, running_stack

DOCUMENT = Path(__file__).parents[3] / "docs/how-to/reverse-proxy.md"
MIB = 1 << 20


@dataclass(frozen=True)
class Proxied:
    """A gateway behind a proxy; `web` and `gitlab` are what people use."""

    stack: Stack
    web: str
    gitlab: str
    tls: Tls

    def client(self) -> httpx.Client:
        return httpx.Client(verify=ssl.create_default_context(cafile=str(self.tls.certificate)), timeout=30)


def documented(stack: Stack, tls: Tls, ports: list[int], folder: Path) -> str:
    """The document's block inside a configuration that an ordinary nginx starts with."""
    [block] = re.findall(r"^```nginx\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{ports[0]} ssl",
        "listen 10080 ssl": f"listen 127.0.0.1:{ports[1]} ssl",
        "listen 5050 ssl": f"listen 127.0.0.1:{ports[2]} ssl",
        "127.0.0.1:8000": f"127.0.0.1:{stack.ports.web}",
        "127.0.0.1:10081": f"127.0.0.1:{stack.ports.gitlab}",
        "/etc/ssl/ml.example.org.pem": str(tls.certificate),
        "/etc/ssl/ml.example.org.key": str(tls.key),
    }
    for before, after in changes.items():
        assert block.count(before) == 1, before
        block = block.replace(before, after)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxy")
    folder.chmod(0o755)
    tls = self_signed(folder, "DNS:localhost")
    ports = free_ports(3)
    with short_home() as home, running_stack(home, trusted_proxies=("127.0.0.1",), hsts_s=60) as stack:
        (folder / "nginx.conf").write_text(documented(stack, tls, ports, folder))
        with running_nginx(folder / "nginx.conf", ports[1], folder / "log"):
            yield Proxied(stack, f"https://localhost:{ports[0]}", f"https://localhost:{ports[1]}", tls)


@pytest.fixture(autouse=True)
def nothing_seen(proxied: Proxied) -> None:
    proxied.stack.forget()


def test_services_see_the_client_and_https(proxied: Proxied) -> None:
    with proxied.client() as client:
        answer = client.get(
            f"{proxied.web}/api/v4/projects/group%2Fproject", headers={"X-Forwarded-For": "203.0.113.9"}
        )

    [seen] = proxied.stack.forge.seen
    assert seen.path == "/api/v4/projects/group%2Fproject"
    assert seen.headers["x-forwarded-proto"] == "https"
    assert seen.headers["x-forwarded-for"] == "203.0.113.9"
    assert seen.headers["host"] == proxied.web.removeprefix("https://")
    assert answer.headers["strict-transport-security"] == "max-age=60"


def test_nobody_else_is_believed(proxied: Proxied) -> None:
    """The same words, by another address than the trusted one."""
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(transport=transport) as client:
        said = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        answer = client.get(f"{proxied.stack.web}/x", headers=said)

    [seen] = proxied.stack.management.seen
    assert (seen.headers["x-forwarded-proto"], seen.headers["x-forwarded-for"]) == ("http", "127.0.0.9")
    assert "strict-transport-security" not in answer.headers


def test_clone_and_push(proxied: Proxied, worktree: Path, tmp_path: Path) -> None:
    proxied.stack.add_project("group/project", writers={"ada"})
    trust = ("-c", f"http.sslCAInfo={proxied.tls.certificate}")
    remote = proxied.gitlab.replace("https://", "https://ada:secret@") + "/group/project.git"
    (worktree / "large").write_bytes(bytes(range(256)) * 40 * 4096)
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "40 MiB", cwd=worktree)

    git(*trust, "push", "-q", remote, "main", cwd=worktree)
    git(*trust, "clone", "-q", remote, str(tmp_path / "clone"))

    assert (tmp_path / "clone" / "large").stat().st_size == 40 * MIB


def test_an_event_arrives_when_it_is_sent(proxied: Proxied) -> None:
    with proxied.client() as client, client.stream("GET", f"{proxied.web}/events") as answer:
        parts = answer.iter_text()
        began = time.monotonic()
        assert "data: first" in next(parts)
        assert time.monotonic() - began < 5
        proxied.stack.management.next_event.set()
        assert "data: last" in "".join(parts)


def test_a_large_upload_is_spooled_once(proxied: Proxied) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(60):
            yield b"x" * MIB

    with proxied.client() as client:
        url = f"{proxied.gitlab}/api/v4/jobs/1/artifacts"
        answer = client.post(url, content=body(), headers={"JOB-TOKEN": "good"})

    assert answer.status_code == 201
    assert (proxied.stack.home / "forge" / "taken").stat().st_size == 60 * MIB


def test_a_redirect_of_ours_stays_on_the_way_that_people_came(proxied: Proxied) -> None:
    """Without a host, so that no port or scheme of ours leaks."""
    with proxied.client() as client:
        answer = client.get(f"{proxied.gitlab}/group/project/info/refs?service=git-upload-pack")
    assert answer.status_code == 301
    assert answer.headers["location"] == "/group/project.git/info/refs?service=git-upload-pack"
