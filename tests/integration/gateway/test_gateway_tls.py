"""TLS at a real nginx: every port, the way there from plain HTTP, and the inner address of this machine's programs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nautilus_gateway import Ports
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, short_home
from nautilus_gateway.testing.stack import Stack, git, running_stack

INNER = "127.0.0.2"


@pytest.fixture(scope="module")
def tls_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    tls = self_signed(tmp_path_factory.mktemp("tls"), "DNS:localhost", "IP:127.0.0.1")
    ports = Ports(*free_ports(4))
    with short_home() as home:
        (home / "acme" / ".well-known" / "acme-challenge").mkdir(parents=True)
        (home / "acme" / ".well-known" / "acme-challenge" / "token").write_text("proof")
        with running_stack(home, ports=ports, tls=tls, inner_address=INNER, hsts_s=3600) as stack:
            yield stack


@pytest.fixture(autouse=True)
def nothing_seen(tls_stack: Stack) -> None:
    tls_stack.forget()


@pytest.fixture
def client(tls_stack: Stack) -> Iterator[httpx.Client]:
    assert tls_stack.config.tls is not None
    trust = ssl.create_default_context(cafile=str(tls_stack.config.tls.certificate))
    with httpx.Client(verify=trust) as trusting:
        yield trusting


@pytest.mark.parametrize(
    ("listener", "service"), [("web_tls", "management"), ("gitlab", "forge"), ("management", "management")]
)
def test_every_port_speaks_tls(tls_stack: Stack, client: httpx.Client, listener: str, service: str) -> None:
    port = getattr(tls_stack.ports, listener)
    path = "/api/v1/x" if service == "management" else "/x"

    answer = client.get(f"https://localhost:{port}{path}")

    assert answer.status_code == 200
    [seen] = getattr(tls_stack, service).seen
    assert seen.headers["x-forwarded-proto"] == "https"
    assert seen.headers["host"] == f"localhost:{port}"
    assert answer.headers["strict-transport-security"] == "max-age=3600"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused_by_the_gateway(tls_stack: Stack) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError, match=r"ALERT_PROTOCOL_VERSION|alert protocol version"):
        httpx.get(f"https://localhost:{tls_stack.ports.gitlab}/x", verify=old)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_the_plain_web_port_redirects_with_method_path_and_query(tls_stack: Stack, method: str) -> None:
    answer = httpx.request(method, f"{tls_stack.web}/a%2Fb?c=d")

    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://127.0.0.1:{tls_stack.ports.web_tls}/a%2Fb?c=d"
    assert "strict-transport-security" not in answer.headers
    assert tls_stack.management.seen == [] == tls_stack.forge.seen


def test_health_and_acme_are_served_without_tls(tls_stack: Stack) -> None:
    assert httpx.get(f"{tls_stack.web}/-/health").status_code == 200
    assert httpx.get(f"{tls_stack.web}/.well-known/acme-challenge/token").text == "proof"
    assert httpx.get(f"{tls_stack.web}/.well-known/acme-challenge/other").status_code == 404


@pytest.mark.parametrize("listener", ["gitlab", "management"])
def test_plain_http_on_a_tls_port_is_told_where_to_go(tls_stack: Stack, listener: str) -> None:
    port = getattr(tls_stack.ports, listener)

    answer = httpx.get(f"http://localhost:{port}/a%2Fb.git/info/refs?service=git-upload-pack")

    assert answer.status_code == 308
    assert (
        answer.headers["location"] == f"https://localhost:{port}/a%2Fb.git/info/refs?service=git-upload-pack"
    )


def test_this_machines_programs_need_no_certificate(tls_stack: Stack) -> None:
    for port, service in (
        (tls_stack.ports.gitlab, tls_stack.forge),
        (tls_stack.ports.web, tls_stack.management),
    ):
        assert httpx.get(f"http://{INNER}:{port}/x").status_code == 200
        assert service.seen[-1].headers["x-forwarded-proto"] == "http"


def test_clone_and_push_with_the_certificate_as_ca(tls_stack: Stack, worktree: Path, tmp_path: Path) -> None:
    tls_stack.add_project("group/project", writers={"ada"})
    assert tls_stack.config.tls is not None
    trust = ("-c", f"http.sslCAInfo={tls_stack.config.tls.certificate}")
    remote = tls_stack.remote("group/project").replace("http://", "https://")
    (worktree / "large").write_bytes(bytes(range(256)) * 40_000)
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "large", cwd=worktree)

    git(*trust, "push", "-q", remote, "main", cwd=worktree)
    git(*trust, "clone", "-q", remote, str(tmp_path / "clone"))

    assert (tmp_path / "clone" / "large").stat().st_size == 256 * 40_000
    refused = git("clone", remote, str(tmp_path / "untrusting"), check=False)
    assert "certificate" in refused.lower()
