"""A real nginx, fcgiwrap and git in front of stand-ins for the forge and management."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nautilus_gateway.testing.programs import short_home
from nautilus_gateway.testing.stack import Stack, git, running_stack

Exchange = Callable[..., bytes]


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Stack]:
    with short_home() as home, running_stack(home) as everything:
        yield everything


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """A gateway whose services remember nothing of other tests. Not to be broken: see `fresh_stack`."""
    shared_stack.forget()
    return shared_stack


@pytest.fixture
def fresh_stack() -> Iterator[Stack]:
    """A gateway of the test's own, for breaking it."""
    with short_home() as home, running_stack(home) as everything:
        yield everything


@pytest.fixture
def repository(stack: Stack) -> Path:
    """`group/project`, written by ada, read by bob, not for the anonymous one."""
    return stack.add_project("group/project", writers={"ada"}, readers={"bob"})


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    """A clone to be, with one commit on main; it does not compress, since tests fill it with random bytes."""
    path = tmp_path / "work"
    git("init", "-q", "-b", "main", str(path))
    git("config", "core.compression", "0", cwd=path)
    (path / "README.md").write_text("a project\n")
    git("add", ".", cwd=path)
    git("commit", "-q", "-m", "first", cwd=path)
    return path


@pytest.fixture
def authorization() -> str:
    return "Basic " + base64.b64encode(b"ada:secret").decode()


@pytest.fixture
def exchange(stack: Stack) -> Exchange:
    """Sends bytes as they are and returns all that comes back: for what no client would send.

    The request must ask for the connection to be closed.
    """

    def send(raw: bytes, port: int | None = None, timeout_s: float = 10) -> bytes:
        with socket.create_connection(("127.0.0.1", port or stack.ports.gitlab), timeout_s) as connection:
            connection.sendall(raw)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
            return b"".join(parts)

    return send
