"""Uploads are authorised first, spooled by nginx, and handed to the service by path."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.testing.programs import wait_until
from nautilus_gateway.testing.stack import Stack

MIB = 1 << 20
ARTIFACTS = "/api/v4/jobs/12/artifacts"
LFS = f"/group/project.git/gitlab-lfs/objects/{'a' * 64}/5"
TRACKED = "/api/2.0/mlflow-artifacts/artifacts/1/abc/model/weights.bin"


def spooled(stack: Stack) -> list[str]:
    """Bodies that lie below the spool folder now."""
    return [path.name for path in (stack.home / "spool").rglob("*") if path.is_file()]


KINDS = ("artifacts", "artifacts", "lfs", "tracking", "tracking")
"""Of `uploads`: each has a folder of its own in the spool, so that a service sees what comes in for what."""


def uploads(stack: Stack) -> list[tuple[str, str, str, dict[str, str]]]:
    """Who uploads what where: method, URL, service, credentials."""
    return [
        ("POST", stack.gitlab + ARTIFACTS, "forge", {"JOB-TOKEN": "good"}),
        ("POST", stack.web + ARTIFACTS, "forge", {"JOB-TOKEN": "good"}),
        ("PUT", stack.gitlab + LFS, "forge", {"Authorization": "Bearer good"}),
        ("PUT", stack.web + TRACKED, "management", {"Authorization": "Bearer good"}),
        ("PUT", stack.api + TRACKED, "management", {"Authorization": "Bearer good"}),
    ]


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_the_service_gets_a_file_and_never_the_bytes(stack: Stack, number: int) -> None:
    method, url, name, credentials = uploads(stack)[number]
    body = os.urandom(5 * MIB)
    service = getattr(stack, name)

    answer = httpx.request(method, url, content=body, headers=credentials | {"Content-Type": "text/x-test"})

    assert answer.status_code == 201
    question, upload = service.seen
    assert (question.path, question.headers["x-original-method"]) == ("/internal/upload/authorize", method)
    assert upload.spooled is not None and upload.spooled.parent == stack.home / "spool" / KINDS[number]
    assert upload.body_bytes == 0
    assert upload.headers["content-type"] == "text/x-test"
    assert url.endswith(upload.path)
    taken = (service.files / "taken").read_bytes()
    assert hashlib.sha256(taken).digest() == hashlib.sha256(body).digest()


def test_the_spooled_file_is_gone_afterwards(stack: Stack) -> None:
    httpx.post(stack.gitlab + ARTIFACTS, content=os.urandom(MIB), headers={"JOB-TOKEN": "good"})

    wait_until(lambda: spooled(stack) == [], "an empty spool folder")


def test_a_chunked_upload_is_spooled_like_any_other(stack: Stack) -> None:
    """As gitlab-runner sends them."""
    pieces = [os.urandom(100_000) for _ in range(30)]

    def body() -> Iterator[bytes]:
        yield from pieces

    answer = httpx.post(stack.gitlab + ARTIFACTS, content=body(), headers={"JOB-TOKEN": "good"})

    assert answer.status_code == 201
    assert (stack.forge.files / "taken").read_bytes() == b"".join(pieces)


def test_a_small_upload_is_a_file_too(stack: Stack) -> None:
    httpx.post(stack.gitlab + ARTIFACTS, content=b"x", headers={"JOB-TOKEN": "good"})

    assert (stack.forge.files / "taken").read_bytes() == b"x"


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_denied_upload_is_answered_by_the_service_and_not_stored(stack: Stack, number: int) -> None:
    """1 GiB is promised, a little is sent: nothing of it lies on the disk when the answer is there."""
    method, url, name, _ = uploads(stack)[number]
    port, path = int(url.split(":")[2].split("/")[0]), "/" + url.split("/", 3)[3]
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nJOB-TOKEN: bad\r\nContent-Length: {1 << 30}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head.encode() + os.urandom(200_000))
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 403")
    assert b'{"message":"403 Forbidden"}' in answer
    assert spooled(stack) == []
    assert "x-nautilus-body-file" not in getattr(stack, name).seen[-1].headers


@pytest.mark.parametrize("refusal", [400, 403, 404, 413])
def test_a_refusal_of_any_kind_is_left_to_the_services_own_route(stack: Stack, refusal: int) -> None:
    stack.management.refusal = refusal

    answer = httpx.put(stack.web + TRACKED, content=b"x" * MIB)

    assert (answer.status_code, answer.text) == (403, '{"message":"403 Forbidden"}')
    assert "x-nautilus-body-file" not in stack.management.seen[-1].headers


def test_a_service_that_cannot_decide_yet_is_a_503(stack: Stack) -> None:
    """It starts, and waits for its database."""
    stack.management.refusal = 503

    assert httpx.put(stack.web + TRACKED, content=b"x" * MIB).status_code == 503
    assert len(stack.management.seen) == 1


def test_a_client_cannot_name_the_file(stack: Stack) -> None:
    """Neither in an upload nor in any other request."""
    forged = {"JOB-TOKEN": "good", "X-Nautilus-Body-File": "/etc/passwd"}

    httpx.post(stack.gitlab + ARTIFACTS, content=b"mine", headers=forged)
    httpx.post(stack.gitlab + "/api/v4/projects", content=b"mine", headers=forged)

    assert (stack.forge.files / "taken").read_bytes() == b"mine"
    assert "x-nautilus-body-file" not in stack.forge.seen[-1].headers


def test_other_methods_of_the_same_path_are_no_uploads(stack: Stack) -> None:
    httpx.get(stack.gitlab + ARTIFACTS, headers={"JOB-TOKEN": "good"})

    assert [(seen.method, seen.path) for seen in stack.forge.seen] == [("GET", ARTIFACTS)]


def test_an_ordinary_body_has_a_limit(stack: Stack) -> None:
    head = f"POST /api/v4/projects HTTP/1.1\r\nHost: localhost\r\nContent-Length: {301 * MIB}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code": "payload_too_large"' in answer
    assert stack.forge.seen == []


def test_where_the_service_is_down_the_upload_is_told_so(fresh_stack: Stack) -> None:
    stack = fresh_stack
    stack.forge.socket.unlink()

    answer = httpx.post(stack.gitlab + ARTIFACTS, content=b"x" * MIB, headers={"JOB-TOKEN": "good"})

    assert answer.status_code == 503
    assert answer.json()["components"][1]["name"] == "forge"
    assert spooled(stack) == []


def test_a_spool_folder_that_cannot_be_written_is_insufficient_storage(fresh_stack: Stack) -> None:
    stack = fresh_stack
    spool: Path = stack.home / "spool"
    spool.rename(stack.home / "elsewhere")

    answer = httpx.post(stack.gitlab + ARTIFACTS, content=b"x" * MIB, headers={"JOB-TOKEN": "good"})

    assert answer.status_code == 507
    assert answer.json()["code"] == "insufficient_storage"
    assert [seen.path for seen in stack.forge.seen] == ["/internal/upload/authorize"]
