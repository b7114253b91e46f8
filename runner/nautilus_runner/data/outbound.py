"""Requests to addresses that jobs name: never to this machine's own services, unless they are said to be for jobs.

A name is resolved once, checked, and that very address is connected to; each redirect is a request of its own,
without credentials where it leads elsewhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from nautilus_runner.errors import DataFailed
from nautilus_runner.transport import KEEPALIVE, Answer, exchange, tls_context

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_SECRET_HEADERS = frozenset({"authorization", "cookie", "job-token", "private-token", "x-amz-security-token"})
_PORTS = {"http": 80, "https": 443}
_READ_S = 60.0


class Guard(httpcore.AsyncNetworkBackend):
    """Connects only where jobs may go. `origins`: (host, port) of servers; `hosts`: with any port."""

    def __init__(self, origins: Iterable[tuple[str, int]], hosts: Iterable[str]) -> None:
        self._origins = frozenset(origins)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        is_named = (host.lower(), port) in self._origins or host.lower() in self._hosts
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known: {error.strerror or error}") from error
        problem: Exception = httpcore.ConnectError(f"{host} has no address")
        for info in found:
            address = str(info[4][0])
            if not is_named and address not in self._hosts and is_own(address):
                raise DataFailed(
                    f"{host} is {address}, an address of the runner's own machine or link: jobs get nothing there "
                    "([data] local_hosts allows it)"
                )
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem


def is_own(address: str) -> bool:
    """Whether an address is this machine's own, or none that a server elsewhere could have."""
    plain = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(plain, "ipv4_mapped", None) or plain
    if ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast:
        return True
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))  # only possible with an address of ours
        except OSError:
            return False
    return True


class Outbound:
    """A pool of connections behind a guard."""

    def __init__(self, origins: Iterable[tuple[str, int]], hosts: Iterable[str], ca_file: str) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls_context(ca_file),
            max_connections=None,
            max_keepalive_connections=4,
            keepalive_expiry=15,
            socket_options=KEEPALIVE,
            network_backend=Guard(origins, hosts),
        )

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """The head of the last answer, and its body. Raises UnavailableError, DataFailed (refused)."""
        for _ in range(_MOST_REDIRECTS + 1):
            async with exchange(self._pool, method, url, headers, content, _READ_S) as (answer, body):
                target = answer.headers.get("location", "")
                if answer.status not in _REDIRECTS or not target:
                    yield answer, body
                    return
            following = urljoin(url, target)
            if urlsplit(following).scheme not in _PORTS:
                raise DataFailed(f"redirected to {urlsplit(following).scheme!r}, which is not http")
            if origin_of(following) != origin_of(url):
                headers = {k: v for k, v in headers.items() if k.lower() not in _SECRET_HEADERS}
            url = following
        raise DataFailed(f"redirected more than {_MOST_REDIRECTS} times")

    async def close(self) -> None:
        await self._pool.aclose()


def origin_of(url: str) -> tuple[str, int]:
    """Host and port. Raises DataFailed for what has none."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        port = 0
    if not parts.hostname or not port:
        raise DataFailed("the address has no host")
    return parts.hostname.lower(), port
