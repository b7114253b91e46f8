"""A client that goes away in the middle leaves no process, no half-updated ref, and a gateway that still serves."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from nautilus_gateway.testing.programs import wait_until
from nautilus_gateway.testing.stack import GIT_ENVIRONMENT, Stack, git

MIB = 1 << 20


def git_processes(home: Path) -> list[str]:
    """Command lines of git processes that serve a repository of this gateway."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"GIT_PROJECT_ROOT={home}".encode() in environment and command:
            found.append(command)
    return found


@pytest.fixture
def large(stack: Stack, repository: Path, worktree: Path) -> str:
    """A project whose clone is 64 MiB, more than all buffers between git and a client that reads nothing."""
    stack.forge.writable["group/project"].add("ada")
    git("config", "transfer.unpackLimit", "1", cwd=repository)
    (worktree / "big").write_bytes(os.urandom(64 * MIB))
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "big", cwd=worktree)
    git("push", "-q", stack.remote("group/project"), "main", cwd=worktree)
    return git("rev-parse", "main", cwd=repository).strip()


def clone_request(commit: str, authorization: str) -> bytes:
    want = f"0032want {commit}\n00000009done\n"
    return (
        f"POST /group/project.git/git-upload-pack HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: {len(want)}\r\n\r\n{want}"
    ).encode()


def test_a_clone_that_is_cut_leaves_no_process(stack: Stack, large: str, authorization: str) -> None:
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) as connection:
        connection.sendall(clone_request(large, authorization))
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")

    wait_until(lambda: git_processes(stack.home) == [], "git's processes gone")


def test_clones_that_nobody_reads_do_not_keep_others_out(
    stack: Stack, large: str, authorization: str, tmp_path: Path
) -> None:
    """nginx puts aside what a slow client has not taken yet, so that git is free for the next one."""
    stuck = [socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) for _ in range(10)]
    try:
        for connection in stuck:
            connection.sendall(clone_request(large, authorization))

        git("clone", "-q", stack.remote("group/project"), str(tmp_path / "clone"))
    finally:
        for connection in stuck:
            connection.close()

    wait_until(lambda: git_processes(stack.home) == [], "git's processes gone")


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with-content-length"])
def test_a_push_that_is_cut_changes_nothing(
    stack: Stack, repository: Path, worktree: Path, authorization: str, chunked: bool
) -> None:
    """The command arrives whole, of the pack a half."""
    start = half_a_push(worktree)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(start) * 2}"
    body = f"{len(start):x}\r\n".encode() + start + b"\r\n" if chunked else start
    head = (
        f"POST /group/project.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/x-git-receive-pack-request\r\n{length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.ports.gitlab), 10) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: git_processes(stack.home) != [], "git at work on the push")

    wait_until(lambda: git_processes(stack.home) == [], "git's processes gone")
    assert git("for-each-ref", cwd=repository) == ""
    assert not list((repository / "objects").glob("*incoming-*"))


def half_a_push(worktree: Path) -> bytes:
    """What a client sends to create main, up to the middle of the pack."""
    (worktree / "big").write_bytes(os.urandom(4 * MIB))
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "big", cwd=worktree)
    commit = git("rev-parse", "main", cwd=worktree).strip()
    packing = ["git", "pack-objects", "--revs", "--stdout", "-q"]
    packed = subprocess.run(
        packing, cwd=worktree, env=GIT_ENVIRONMENT, input=b"main\n", stdout=subprocess.PIPE, check=True
    )
    pack = packed.stdout
    command = f"{'0' * 40} {commit} refs/heads/main\0report-status".encode()
    return f"{len(command) + 4:04x}".encode() + command + b"0000" + pack[: len(pack) // 2]


def test_a_killed_push_can_be_made_again(stack: Stack, repository: Path, worktree: Path) -> None:
    (worktree / "big").write_bytes(os.urandom(32 * MIB))
    git("add", ".", cwd=worktree)
    git("commit", "-q", "-m", "big", cwd=worktree)
    push = ["git", "push", "-q", stack.remote("group/project"), "main"]
    first = subprocess.Popen(push, cwd=worktree, env=GIT_ENVIRONMENT, start_new_session=True)
    wait_until(
        lambda: any("index-pack" in one or "unpack" in one for one in git_processes(stack.home)), "a push", 30
    )
    os.killpg(first.pid, 9)
    first.wait()
    wait_until(lambda: git_processes(stack.home) == [], "git's processes gone")

    git(*push[1:], cwd=worktree)

    assert git("rev-parse", "main", cwd=repository) == git("rev-parse", "main", cwd=worktree)
    git("fsck", "--strict", cwd=repository)


def test_where_git_is_down_the_answer_names_git(fresh_stack: Stack) -> None:
    stack = fresh_stack
    stack.add_project("group/project", writers={"ada"})
    (stack.home / "run" / "git.sock").unlink()

    answer = httpx.get(
        f"{stack.gitlab}/group/project.git/info/refs?service=git-upload-pack", auth=("ada", "secret")
    )

    assert answer.status_code == 503
    assert answer.json()["components"][1]["name"] == "git"


def test_where_the_forge_is_down_the_answer_names_the_forge(fresh_stack: Stack) -> None:
    stack = fresh_stack
    stack.forge.socket.unlink()

    answer = httpx.get(f"{stack.gitlab}/group/project.git/info/refs?service=git-upload-pack")

    assert answer.status_code == 503
    assert answer.json()["components"][1]["name"] == "forge"
