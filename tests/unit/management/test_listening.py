"""Whether a port is listened on is read from the kernel, without connecting."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from nautilus.health.listening import is_listened_on
from nautilus.health.probes import ComponentState, sshd_component


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_listening_port_is_seen_until_it_is_closed(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        port = server.getsockname()[1]
        assert not is_listened_on(port)
        server.listen()
        assert is_listened_on(port)
        assert sshd_component(port).state is ComponentState.READY
    assert not is_listened_on(port)
    assert sshd_component(port).state is ComponentState.STARTING


def test_a_connection_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert not is_listened_on(client.getsockname()[1])


def test_a_machine_without_ipv6_has_no_second_table(tmp_path: Path) -> None:
    assert not is_listened_on(22, (tmp_path / "none",))
