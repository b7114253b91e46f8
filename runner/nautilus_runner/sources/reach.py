"""Which addresses of other servers the runner's git may reach for a job: public ones, and hosts that the
configuration names. The address that was judged is the one that git connects to (`http.curloptResolve`).

The runner stands beside the appliance and often in a company's inner network, while `.gitmodules` is written by whoever
can push: an address of this machine, of the link or of a private network is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection

from nautilus_runner.errors import GitError, SourceRefused
from nautilus_runner.sources import git

_PORTS = {"http": 80, "https": 443}
_PINS_SINCE = (2, 37)  # git with http.curloptResolve


async def pinned(remote: git.Remote, named_hosts: Collection[str]) -> git.Remote:
    """The remote, bound to the addresses that its host has now. Raises SourceRefused, GitError."""
    host, port = remote.host, remote.port or _PORTS.get(remote.scheme, 0)
    if {host, f"{host}:{port}"} & {name.lower() for name in named_hosts}:
        return remote
    if await git.version() < _PINS_SINCE:
        raise SourceRefused(
            f"{remote.url} is on another server, and this machine's git can't be held to one address: install git "
            "2.37 or later, or name the host in source_hosts of this runner's [[runners]] entry"
        )
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise GitError(f"Could not resolve host {host}: {error.strerror or error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_public(address):
            raise SourceRefused(
                f"{remote.url} is at {address}, which is not a public address: name {host} in source_hosts of "
                "this runner's [[runners]] entry if jobs may fetch from there"
            )
    shown = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
    return remote.pinned_to(f"{host}:{port}:{shown}")


def is_public(address: str) -> bool:
    """Whether anybody on the internet could reach it. Pure."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    if inner is not None:
        return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast
