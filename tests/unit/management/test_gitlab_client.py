"""How the client behaves where a server is slow, odd or down; what it sends and what it keeps."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import SecretStr

from nautilus.core.identity import Credential, CredentialKind
from nautilus.errors import (
    GitLabConflict,
    GitLabError,
    GitLabForbidden,
    GitLabRefused,
    GitLabUnavailable,
    NautilusError,
)
from nautilus.gitlab.client import READ_TIMEOUT_S, GitLabClient
from nautilus.testing.stub_server import Answer, StubServer, stub_server

TOKEN = "glpat-canary-4711"
USER = b'{"id": 3, "username": "ada", "name": "Ada"}'


def credential(kind: CredentialKind = CredentialKind.PERSONAL, sudo: str | None = None) -> Credential:
    return Credential(kind, SecretStr(TOKEN), sudo)


async def whoami(
    stub: StubServer, given: Credential | None = None, read_timeout_s: float = READ_TIMEOUT_S
) -> object:
    client = GitLabClient(stub.url, read_timeout_s=read_timeout_s)
    try:
        return await client.acting(given or credential()).whoami()
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [
        (CredentialKind.PERSONAL, "PRIVATE-TOKEN", TOKEN),
        (CredentialKind.OAUTH, "Authorization", f"Bearer {TOKEN}"),
        (CredentialKind.JOB, "JOB-TOKEN", TOKEN),
    ],
)
async def test_each_kind_of_token_goes_in_its_own_header(
    kind: CredentialKind, header: str, value: str
) -> None:
    with stub_server({"/api/v4/user": Answer(200, USER)}) as stub:
        await whoami(stub, credential(kind, sudo="eve"))
    [asked] = stub.asked
    assert asked.headers[header] == value and asked.headers["Sudo"] == "eve"
    assert {"PRIVATE-TOKEN", "Authorization", "JOB-TOKEN"} & asked.headers.keys() == {header}


async def test_two_callers_share_connections_but_no_cookie() -> None:
    with stub_server(
        {"/api/v4/user": Answer(200, USER, {"Set-Cookie": "_gitlab_session=eve; Path=/"})}
    ) as stub:
        client = GitLabClient(stub.url)
        await client.acting(credential()).whoami()
        await client.acting(Credential(CredentialKind.PERSONAL, SecretStr("other"))).whoami()
        await client.close()
    assert all("Cookie" not in asked.headers for asked in stub.asked)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"message": {"path": ["has already been taken"]}}', GitLabConflict),
        (400, b'{"message": {"name": ["is too long"], "base": ["no"]}}', GitLabRefused),
        (403, b'{"error": "insufficient_scope"}', GitLabForbidden),
        (409, b"{}", GitLabConflict),
        (418, b"teapot", GitLabRefused),
        (429, b"{}", GitLabUnavailable),
        (500, b"<html>", GitLabUnavailable),
        (502, b"", GitLabUnavailable),
        (200, b"<html>not json", GitLabError),
        (301, b"", NautilusError),
    ],
)
async def test_every_answer_that_is_no_success_is_an_error_of_ours(
    status: int, body: bytes, kind: type[NautilusError]
) -> None:
    headers = {"Location": "/elsewhere"} if status == 301 else {}
    with stub_server({"/api/v4/user": Answer(status, body, headers)}) as stub, pytest.raises(kind) as caught:
        await whoami(stub)
    assert TOKEN not in str(caught.value)


async def test_an_answer_without_what_we_need_is_an_error_of_ours() -> None:
    with stub_server({"/api/v4/user": Answer(200, b'{"id": 3}')}) as stub, pytest.raises(GitLabError):
        await whoami(stub)


async def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with stub_server({"/api/v4/user": Answer(200, USER, delay_s=20)}) as stub:
        began = time.monotonic()
        with pytest.raises(GitLabUnavailable):
            await whoami(stub, read_timeout_s=0.2)
        assert time.monotonic() - began < 10


async def test_calls_run_beside_each_other_and_do_not_hold_the_loop() -> None:
    with stub_server({"/api/v4/user": Answer(200, USER, delay_s=1)}) as stub:
        client = GitLabClient(stub.url)
        began = time.monotonic()
        await asyncio.gather(*(client.acting(credential()).whoami() for _ in range(12)))
        assert time.monotonic() - began < 10
        await client.close()


LOG = bytes(range(256)) * 1000


@pytest.mark.parametrize("has_length", [True, False], ids=["with length", "without"])
@pytest.mark.parametrize("offset", [0, 1, 99_999, len(LOG) - 1, len(LOG), len(LOG) + 5])
async def test_a_log_is_read_from_an_offset_where_the_server_knows_no_ranges(
    offset: int, has_length: bool
) -> None:
    path = "/api/v4/projects/1/jobs/2/trace"
    with stub_server({path: Answer(200, LOG, {"Content-Type": "text/plain"}, has_length=has_length)}) as stub:
        client = GitLabClient(stub.url)
        part = await client.acting(credential()).job_trace(1, 2, offset, limit_bytes=1000)
        await client.close()
    assert part.data == LOG[offset : offset + 1000]
    assert part.size == len(LOG)


async def test_a_range_that_the_server_honours_is_not_skipped_again() -> None:
    path = "/api/v4/projects/1/jobs/2/trace"
    answer = Answer(206, b"rest", {"Content-Range": "bytes 10-13/14"})
    with stub_server({path: answer}) as stub:
        client = GitLabClient(stub.url)
        part = await client.acting(credential()).job_trace(1, 2, 10)
        await client.close()
    assert (part.offset, part.data, part.size) == (10, b"rest", 14)
    assert stub.asked[0].headers["Range"].startswith("bytes=10-")


async def test_a_range_behind_the_end_is_nothing_new() -> None:
    with stub_server({"/api/v4/projects/1/jobs/2/trace": Answer(416, b"")}) as stub:
        client = GitLabClient(stub.url)
        part = await client.acting(credential()).job_trace(1, 2, 10)
        await client.close()
    assert part.data == b""


async def test_paths_are_encoded_as_gitlab_wants_them() -> None:
    with stub_server({}) as stub:
        account = GitLabClient(stub.url).acting(credential())
        for call in (
            account.project("group/sub/p.x"),
            account.resolve_commit("g/p", "a b/ü?#%2e"),
            account.branch_head(1, "../../user"),
            account.job_artifact_file(1, 2, "out/a b?.txt", 9),
        ):
            with pytest.raises(NautilusError):
                await call
    assert [asked.path for asked in stub.asked] == [
        "/api/v4/projects/group%2Fsub%2Fp.x",
        "/api/v4/projects/g%2Fp/repository/commits/a%20b%2F%C3%BC%3F%23%252e",
        "/api/v4/projects/1/repository/branches/..%2F..%2Fuser",
        "/api/v4/projects/1/jobs/2/artifacts/out/a%20b%3F.txt",
    ]


async def test_health_tells_a_proxy_from_nothing() -> None:
    for status, is_ready in ((401, True), (200, True), (502, False), (503, False), (404, False)):
        with stub_server({"/api/v4/version": Answer(status)}) as stub:
            client = GitLabClient(stub.url)
            found = await client.check()
            await client.close()
        assert (found.is_ready, found.is_reached) == (is_ready, True), status
    client = GitLabClient("http://127.0.0.1:9")
    found = await client.check()
    await client.close()
    assert (found.is_ready, found.is_reached) == (False, False)
