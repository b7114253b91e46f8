"""A proxy in front that ends TLS, with the very configuration of docs/how-to/reverse-proxy.md."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.model import Tls
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import answers, free_ports, running, short_home
from nautilus_gateway.testing.stack import Stack, git, running_stack

DOCUMENT = Path(__file__).parents[3] / "docs/how-to/reverse-proxy.md"
MIB = 1 << 20
PORTS = (443, 10080, 5050)
CERTIFICATE, KEY = "/etc/ssl/ml.example.org.pem", "/etc/ssl/ml.example.org.key"


@dataclass(frozen=True)
class Proxied:
    """A gateway behind a proxy; `web` and `gitlab` are what people use."""

    stack: Stack
    web: str
    gitlab: str
    tls: Tls
    program: str

    def client(self) -> httpx.Client:
        return httpx.Client(verify=ssl.create_default_context(cafile=str(self.tls.certificate)), timeout=30)


PROXIES = ("nginx", "haproxy", "caddy")


def documented(language: str, changes: dict[str, str], times: int) -> str:
    """The document's block in that language; each of `changes` stands in it `times` times."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    block = str(blocks[0])
    for before, after in changes.items():
        assert block.count(before) == times, before
        block = block.replace(before, after)
    return block


def upstreams(stack: Stack) -> dict[str, str]:
    ports = (stack.ports.web, stack.ports.gitlab)
    return {f"127.0.0.1:{port}": f"127.0.0.1:{now}" for port, now in zip((8000, 10081), ports, strict=True)}


def nginx_argv(stack: Stack, tls: Tls, ports: list[int], folder: Path) -> list[str]:
    listens = {
        f"listen {port} ssl": f"listen 127.0.0.1:{now} ssl" for port, now in zip(PORTS, ports, strict=True)
    }
    files = {CERTIFICATE: str(tls.certificate), KEY: str(tls.key)}
    block = documented("nginx", listens | upstreams(stack) | files, times=1)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"pid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]


def haproxy_argv(stack: Stack, tls: Tls, ports: list[int], folder: Path) -> list[str]:
    both = folder / "both.pem"
    both.write_text(tls.certificate.read_text() + tls.key.read_text())
    binds = {f"bind :{port} ssl": f"bind 127.0.0.1:{now} ssl" for port, now in zip(PORTS, ports, strict=True)}
    block = documented("haproxy", binds | upstreams(stack), times=1).replace(CERTIFICATE, str(both))
    (folder / "haproxy.cfg").write_text(block)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def caddy_argv(stack: Stack, tls: Tls, ports: list[int], folder: Path) -> list[str]:
    sites = dict(
        zip(
            ("ml.example.org {", "ml.example.org:10080 {", "ml.example.org:5050 {"),
            (f"localhost:{port} {{" for port in ports),
            strict=True,
        )
    )
    block = documented("caddyfile", sites | upstreams(stack), times=1)
    block = block.replace(CERTIFICATE, str(tls.certificate)).replace(KEY, str(tls.key))
    (folder / "Caddyfile").write_text(f"{{\nadmin off\nauto_https disable_redirects\n}}\n{block}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


ARGV = {"nginx": nginx_argv, "haproxy": haproxy_argv, "caddy": caddy_argv}


@pytest.fixture(scope="module", params=PROXIES)
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    program = str(request.param)
    if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip(f"no {program} here: apt-get install {program}")
    folder = tmp_path_factory.mktemp("proxy")
    folder.chmod(0o755)
    tls = self_signed(folder, "DNS:localhost")
    ports = free_ports(3)
    environment = {"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": str(folder)}
    with short_home() as home, running_stack(home, trusted_proxies=("127.0.0.1",), hsts_s=60) as stack:
        argv = ARGV[program](stack, tls, ports, folder)
        with running(argv, lambda: all(map(answers, ports)), folder / "log", environment):
            yield Proxied(
                stack, f"https://localhost:{ports[0]}", f"https://localhost:{ports[1]}", tls, program
            )


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
    # Caddy believes nobody's word about whence a request came and names its own client; the others append to it.
    assert seen.headers["x-forwarded-for"] == ("127.0.0.1" if proxied.program == "caddy" else "203.0.113.9")
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
    (worktree / "large").write_bytes(bytes(range(256)) * 12 * 4096)
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "12 MiB", cwd=worktree)

    git(*trust, "push", "-q", remote, "main", cwd=worktree)
    git(*trust, "clone", "-q", remote, str(tmp_path / "clone"))

    assert (tmp_path / "clone" / "large").stat().st_size == 12 * MIB


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
