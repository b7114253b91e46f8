"""Whether an address and port of this machine can be listened on."""

from __future__ import annotations

import socket
from pathlib import Path


def can_bind(address: str, port: int = 0) -> bool:
    """True when the port is free there; with port 0: when the address is this machine's own."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def has_ipv6(table: Path = Path("/proc/net/if_inet6")) -> bool:
    """Whether an interface has an IPv6 address that others can reach: loopback's and link-local ones are none.

    Source: Linux, proc_net(5): address, interface's number, prefix length, scope (0x00: global), flags, name.
    """
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return False
    return any(int(line.split()[3], 16) == 0 for line in lines)
