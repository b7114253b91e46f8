"""From a URL that a user gave to a checked `Target`, or to the reason why not."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from pydantic import SecretStr

from nautilus_forge.outbound import addresses
from nautilus_forge.outbound.addresses import IpAddress
from nautilus_forge.outbound.errors import UrlBlocked
from nautilus_forge.outbound.rules import OutboundRules

LONGEST_URL = 2048
_RESOLVE_TIMEOUT_S = 5.0
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<user>[^/?#@:\\]*)(?::(?P<password>[^/?#@\\]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#@:\\\[\]]*)(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<rest>[/?][^#]*)?(?:#.*)?"
)
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class Target:
    """Where a request may go. `host`: as the URL has it, for `Host` and TLS; `addresses`: what to connect to.

    `url` has no credentials. `rest`: path and query, escaped.
    """

    scheme: str
    host: str
    port: int
    rest: str
    addresses: tuple[IpAddress, ...]
    username: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.rest}"

    @property
    def has_credentials(self) -> bool:
        return bool(self.username or self.password.get_secret_value())


def parse(url: str, *, ports: Sequence[int] = ()) -> Target:
    """The URL's parts, not yet resolved. `ports`: those below 1024 that are allowed, empty for all.

    Raises `UrlBlocked` for anything but a plain http or https URL.
    """
    found = _URL.fullmatch(url) if len(url) <= LONGEST_URL else None
    if found is None or any(ord(c) < 0x21 or ord(c) == 0x7F for c in url):
        raise UrlBlocked("URI is invalid")
    scheme = found["scheme"].lower()
    if scheme not in _PORTS:
        raise UrlBlocked("Only allowed schemes are http, https")
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        raise UrlBlocked("URI is invalid")
    if ports and port < 1024 and port not in ports:
        listed = ", ".join(str(allowed) for allowed in ports)
        raise UrlBlocked(f"Only allowed ports are {listed}, and any over 1024")
    user = unquote(found["user"] or "", errors="replace")
    password = unquote(found["password"] or "", errors="replace")
    if user and not user[0].isalnum():
        raise UrlBlocked("Username needs to start with an alphanumeric character")
    if any(ord(c) < 0x20 for c in user + password):
        raise UrlBlocked("URI is invalid")
    rest = quote(found["rest"] or "/", safe="/?%:@!$&'()*+,;=~-._[]")
    return Target(scheme, _host(found["host"]), port, _rooted(rest), (), user, SecretStr(password))


def _rooted(rest: str) -> str:
    return rest if rest.startswith("/") else f"/{rest}"


def _host(text: str) -> str:
    """In lower case and ASCII; a number in any notation (`0x7f.1`, `2130706433`) as the address that it is."""
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError as error:
            raise UrlBlocked("URI is invalid") from error
    try:
        host = text.lower() if text.isascii() else text.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise UrlBlocked("URI is invalid") from error
    if not _HOST.fullmatch(host):
        raise UrlBlocked("Hostname or IP address invalid")
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if host[0].isdigit() else host
    except OSError:
        return host


async def approve(
    url: str, rules: OutboundRules, *, ports: Sequence[int] = (), resolve: Resolve | None = None
) -> Target:
    """The URL's target, resolved once, every one of its addresses checked. Raises `UrlBlocked`."""
    target = parse(url, ports=ports)
    found = tuple(dict.fromkeys(await _resolved(target.host, target.port, resolve or _look_up)))
    if not found:
        raise UrlBlocked("Host cannot be resolved or invalid")
    if (target.host, target.port) in rules.own_hosts:
        raise UrlBlocked("Requests to localhost are not allowed")
    own = await _addresses_of_own(rules, target.port, resolve or _look_up)
    is_domain_allowed = rules.allows_domain(target.host, target.port)
    for address in found:
        _check(address, target.port, rules, own, is_domain_allowed=is_domain_allowed)
    return Target(
        target.scheme, target.host, target.port, target.rest, found, target.username, target.password
    )


def _check(
    address: IpAddress,
    port: int,
    rules: OutboundRules,
    own: frozenset[IpAddress],
    *,
    is_domain_allowed: bool,
) -> None:
    if addresses.is_never_a_server(address):
        raise UrlBlocked("Requests to the limited broadcast address are not allowed")
    is_here = address in own or addresses.is_own(address)
    if address in own or (is_here and port in rules.own_ports):
        raise UrlBlocked("Requests to localhost are not allowed")
    if is_domain_allowed or rules.allows_address(address, port):
        return
    if rules.deny_others:
        raise UrlBlocked("Requests to hosts and IP addresses not on the Allow List are denied")
    if rules.allow_local:
        return
    if is_here and not address.is_loopback:
        raise UrlBlocked("Requests to localhost are not allowed")
    if (reason := addresses.local_kind(address)) is not None:
        raise UrlBlocked(reason)


async def _addresses_of_own(rules: OutboundRules, port: int, resolve: Resolve) -> frozenset[IpAddress]:
    """Where our own names lead, as far as they are served on this port."""
    found: set[IpAddress] = set()
    for host, own_port in rules.own_hosts:
        if own_port == port:
            found.update(await _resolved(host, port, resolve))
    return frozenset(found)


async def _resolved(host: str, port: int, resolve: Resolve) -> list[IpAddress]:
    """All addresses of a host; none where it has none, or the resolver takes too long."""
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            return [addresses.parse(text) for text in await resolve(host, port)]
    except (OSError, ValueError, UnicodeError, TimeoutError):
        return []


async def _look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]
