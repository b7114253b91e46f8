"""A real docker-registry behind a real nginx: addresses in its answers, bodies that are not put aside."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from nautilus.appliance import registry
from nautilus.appliance.layout import Layout
from nautilus.testing.registry import running_registry
from nautilus_forge.registry.signing import Signer
from nautilus_gateway import Ports
from nautilus_gateway.testing.certificates import self_signed
from nautilus_gateway.testing.programs import free_ports, short_home
from nautilus_gateway.testing.stack import Stack, running_stack

MIB = 1 << 20
INNER = "127.0.0.2"


@dataclass(frozen=True)
class Behind:
    """`http` trusts the gateway's certificate and carries a token for the repository ada/digits."""

    stack: Stack
    home: Path
    http: httpx.Client

    @property
    def port(self) -> int:
        assert self.stack.ports.registry is not None
        return self.stack.ports.registry

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def begin_upload(self, **headers: str) -> str:
        """The address at which the upload goes on."""
        answer = self.http.post(f"{self.url}/v2/ada/digits/blobs/uploads/", headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    tls = self_signed(tmp_path_factory.mktemp("tls"), "DNS:localhost", "IP:127.0.0.1")
    ports = Ports(*free_ports(5))
    with (
        short_home() as home,
        running_stack(home, ports=ports, tls=tls, inner_address=INNER) as stack,
        running_registry(program, home, "https://gitlab.example:10080"),
    ):
        layout = Layout(home)
        signer = Signer(layout.secret(registry.KEY_NAME), layout.secret(registry.CERTIFICATE_NAME))
        trust = ssl.create_default_context(cafile=str(tls.certificate))
        token = {"Authorization": f"Bearer {signer.full_access('ada/digits')}"}
        with httpx.Client(verify=trust, headers=token, timeout=60) as http:
            yield Behind(stack, home, http)


def test_those_without_a_token_are_sent_to_gitlab(behind: Behind) -> None:
    answer = behind.http.get(f"{behind.url}/v2/", headers={"Authorization": ""})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith(
        'Bearer realm="https://gitlab.example:10080/jwt/auth",service="container_registry"'
    )


@pytest.mark.parametrize("host", ["localhost:{port}", "registry.example", "registry.example:8443"])
def test_addresses_in_answers_are_those_that_the_client_used(behind: Behind, host: str) -> None:
    name = host.format(port=behind.port)
    assert behind.begin_upload(Host=name).startswith(f"https://{name}/v2/ada/digits/blobs/uploads/")


def test_what_a_client_says_of_itself_is_not_believed(behind: Behind) -> None:
    location = behind.begin_upload(
        **{
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "evil.example",
            "Forwarded": "proto=http;host=evil.example",
        }
    )
    assert location.startswith(f"{behind.url}/v2/")


def test_this_machines_programs_speak_plain_http(behind: Behind) -> None:
    url = f"http://{INNER}:{behind.port}/v2/ada/digits/blobs/uploads/"
    answer = behind.http.post(url)
    assert answer.headers["Location"].startswith(f"http://{INNER}:{behind.port}/v2/")


def test_a_layer_streams_through(behind: Behind) -> None:
    """Half of it is with the registry before the client has sent the other half; nginx keeps nothing of it."""
    location = behind.begin_upload()
    uploads = Layout(behind.home).registry / "docker/registry/v2/repositories/ada/digits/_uploads"
    block = bytes(range(256)) * 4096
    seen: list[int] = []

    def arrived() -> int:
        return max((path.stat().st_size for path in uploads.glob("*/data")), default=0)

    def body() -> Iterator[bytes]:
        for _ in range(32):
            yield block
        end = time.monotonic() + 60
        while arrived() < 16 * MIB and time.monotonic() < end:
            time.sleep(0.02)
        seen.append(arrived())
        assert list((behind.home / "spool").rglob("[0-9]*")) == []
        for _ in range(32):
            yield block

    answer = behind.http.patch(location, content=body(), headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 202, answer.text
    assert seen[0] >= 16 * MIB
    digest = hashlib.sha256(block * 64).hexdigest()
    done = behind.http.put(
        httpx.URL(answer.headers["Location"]).copy_merge_params({"digest": f"sha256:{digest}"})
    )
    assert done.status_code == 201, done.text
    pulled = hashlib.sha256()
    with behind.http.stream("GET", f"{behind.url}/v2/ada/digits/blobs/sha256:{digest}") as blob:
        assert blob.headers["Content-Length"] == str(64 * MIB)
        for part in blob.iter_bytes():
            pulled.update(part)
    assert pulled.hexdigest() == digest
    part = behind.http.get(
        f"{behind.url}/v2/ada/digits/blobs/sha256:{digest}", headers={"Range": "bytes=0-9"}
    )
    assert (part.status_code, part.content) == (206, bytes(range(10)))


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v2", "/debug/vars", "/metrics", "/api/v4/version", "/internal/x"]
)
def test_nothing_else_is_served_there(behind: Behind, path: str) -> None:
    behind.stack.forget()
    assert behind.http.get(f"{behind.url}{path}").status_code in (301, 404)
    assert behind.stack.forge.seen == [] == behind.stack.management.seen


def test_a_registry_that_is_down_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        short_home() as home,
        running_stack(home, ports=Ports(*free_ports(3), None, free_ports(1)[0])) as stack,
    ):
        answer = httpx.get(f"http://127.0.0.1:{stack.ports.registry}/v2/")
        assert answer.status_code == 503
        assert "The container registry does not answer" in answer.json()["message"]
        assert answer.json()["components"][1]["name"] == "registry"


def test_without_a_registry_nothing_listens_for_it() -> None:
    from nautilus_gateway.appliance import appliance_config

    config = appliance_config(Path("/home"), Path("/run"), ports=Ports())
    assert [listener.name for listener in config.listeners] == ["web", "management", "gitlab"]
