"""Clone, fetch and push by a real git through the gateway, of every size and encoding that git sends."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.testing.stack import GIT_ENVIRONMENT, Stack, git

MIB = 1 << 20


@pytest.fixture
def pushed(stack: Stack, repository: Path, worktree: Path) -> str:
    """The commit on main at the server."""
    git("push", "-q", stack.remote("group/project"), "main", cwd=worktree)
    return git("rev-parse", "main", cwd=repository).strip()


def test_what_was_pushed_is_what_is_cloned(stack: Stack, pushed: str, tmp_path: Path) -> None:
    git("clone", "-q", stack.remote("group/project"), str(tmp_path / "clone"))

    assert git("rev-parse", "HEAD", cwd=tmp_path / "clone").strip() == pushed


def test_a_shallow_clone_has_one_commit(stack: Stack, pushed: str, worktree: Path, tmp_path: Path) -> None:
    git("commit", "-q", "--allow-empty", "-m", "second", cwd=worktree)
    git("push", "-q", stack.remote("group/project"), "main", cwd=worktree)

    git("clone", "-q", "--depth", "1", stack.remote("group/project"), str(tmp_path / "clone"))

    assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "clone").strip() == "1"


@pytest.mark.parametrize(
    ("asked", "first_line"), [("version=2", "version 2"), (None, "# service=git-upload-pack")]
)
def test_the_protocol_version_is_the_clients(
    stack: Stack, pushed: str, asked: str | None, first_line: str
) -> None:
    headers = {"Git-Protocol": asked} if asked else {}

    answer = httpx.get(
        f"{stack.gitlab}/group/project.git/info/refs?service=git-upload-pack",
        auth=("ada", "secret"),
        headers=headers,
    )

    assert answer.text[4:].startswith(first_line)
    assert answer.headers["content-type"] == "application/x-git-upload-pack-advertisement"


def test_a_url_without_git_suffix_is_redirected_as_gitlab_does(stack: Stack, pushed: str) -> None:
    answer = httpx.get(f"{stack.gitlab}/group/project/info/refs?service=git-upload-pack")

    assert answer.status_code == 301
    assert answer.headers["location"] == "/group/project.git/info/refs?service=git-upload-pack"
    assert pushed in git("ls-remote", stack.remote("group/project").removesuffix(".git"))


@pytest.mark.parametrize(
    ("size_mib", "post_buffer"), [(200, "65536"), (20, "500000000")], ids=["chunked", "with-content-length"]
)
def test_a_large_push_is_never_put_on_the_disk_by_nginx(
    fresh_stack: Stack, worktree: Path, size_mib: int, post_buffer: str
) -> None:
    """The spool folder is gone: a body that had to be spooled could not be."""
    stack, repository = fresh_stack, fresh_stack.add_project("group/project", writers={"ada"})
    with (worktree / "big").open("wb") as big:
        for _ in range(size_mib):
            big.write(os.urandom(MIB))
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "big", cwd=worktree)
    shutil.rmtree(stack.home / "spool")

    git(
        "-c",
        f"http.postBuffer={post_buffer}",
        "push",
        "-q",
        stack.remote("group/project"),
        "main",
        cwd=worktree,
    )

    assert git("rev-parse", "main", cwd=repository) == git("rev-parse", "main", cwd=worktree)
    assert git("cat-file", "-s", "main:big", cwd=repository).strip() == str(size_mib * MIB)


def test_a_compressed_request_is_understood(stack: Stack, pushed: str, authorization: str) -> None:
    """git compresses the list of what it wants and has when that is long."""
    want = f"0032want {pushed}\n00000009done\n".encode()

    answer = httpx.post(
        f"{stack.gitlab}/group/project.git/git-upload-pack",
        content=gzip.compress(want),
        headers={
            "Authorization": authorization,
            "Content-Type": "application/x-git-upload-pack-request",
            "Content-Encoding": "gzip",
        },
    )

    assert answer.status_code == 200
    assert b"PACK" in answer.content


def test_many_wants_are_fetched(
    stack: Stack, repository: Path, pushed: str, worktree: Path, tmp_path: Path
) -> None:
    """More than a kilobyte of wants: git itself compresses the request."""
    git("clone", "-q", "--single-branch", stack.remote("group/project"), str(tmp_path / "clone"))
    for number in range(60):
        git("commit", "-q", "--allow-empty", "-m", str(number), cwd=worktree)
        git("branch", f"topic-{number}", cwd=worktree)
        git("reset", "-q", "--hard", pushed, cwd=worktree)
    git("push", "-q", stack.remote("group/project"), "--all", cwd=worktree)

    git("fetch", "-q", "origin", "refs/heads/*:refs/remotes/origin/*", cwd=tmp_path / "clone")

    assert git("rev-parse", "origin/topic-59", cwd=tmp_path / "clone") == git(
        "rev-parse", "topic-59", cwd=worktree
    )


def test_a_client_that_waits_for_100_continue_gets_it(
    stack: Stack, pushed: str, worktree: Path, authorization: str
) -> None:
    want = f"0032want {pushed}\n00000009done\n".encode()
    head = (
        f"POST /group/project.git/git-upload-pack HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {len(want)}\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) as connection:
        connection.sendall(head.encode())
        interim = connection.recv(4096)
        connection.sendall(want)
        rest = b"".join(iter(lambda: connection.recv(65536), b""))

    assert interim.startswith(b"HTTP/1.1 100 Continue")
    assert b"200 OK" in rest and b"PACK" in rest


def test_more_clones_than_responders_wait_and_are_served(stack: Stack, pushed: str, tmp_path: Path) -> None:
    clones = [
        subprocess.Popen(
            ["git", "clone", "-q", stack.remote("group/project"), str(tmp_path / str(number))],
            env=GIT_ENVIRONMENT,
        )
        for number in range(20)
    ]

    assert [clone.wait(60) for clone in clones] == [0] * 20
