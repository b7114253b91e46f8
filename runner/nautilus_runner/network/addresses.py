"""Which addresses are the server's, as jobs name them: pure.

They come from the configuration alone (`url`, `clone_url`, `environment`, `reachable`), never from a job, whose
variables its author can set.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from nautilus_runner.settings import RunnerSettings

_PORTS = {"http": 80, "https": 443, "ssh": 22}


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host, as its users write it, and a TCP port."""

    host: str
    port: int

    @property
    def is_literal(self) -> bool:
        """Whether the host is a number: no name leads to it, so it can't be led elsewhere by one."""
        return _is_number(self.host)

    @property
    def name(self) -> str:
        """The name by which a job reaches it through a forwarder."""
        return f"nautilus-at-{self.host.replace('.', '-')}" if self.is_literal else self.host

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def server_addresses(settings: RunnerSettings, *, has_loopback: bool = False) -> tuple[Address, ...]:
    """What jobs of a registration may always reach. `has_loopback`: also what the runner reaches at its own machine's
    loopback; a container is by itself there."""
    values = [line.partition("=")[2] for line in settings.environment]
    urls = [settings.url, settings.clone_url, *(value for value in values if "://" in value)]
    found = [address for url in urls if (address := _of_url(url))]
    found += [parse_address(text) for text in (settings.registry, *settings.reachable) if text]
    return tuple(dict.fromkeys(a for a in found if has_loopback or not is_loopback(a.host)))


def parse_address(text: str) -> Address:
    """`host:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if (
        not colon
        or not re.fullmatch(r"[A-Za-z0-9._-]+", host)
        or not port.isdigit()
        or not 0 < int(port) < 65536
    ):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return Address(host.lower(), int(port))


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_number(host) and ipaddress.ip_address(host).is_loopback


def planes(addresses: Iterable[Address]) -> list[dict[int, Address]]:
    """The addresses by port, in as few groups as have no port twice: one forwarder serves one group."""
    groups: list[dict[int, Address]] = []
    by_host: dict[str, list[Address]] = {}
    for address in sorted(addresses):
        by_host.setdefault(address.host, []).append(address)
    for ports in by_host.values():  # a name leads to one forwarder, so all ports of a host are in one group
        fits = (group for group in groups if not any(address.port in group for address in ports))
        group = next(fits, None)
        if group is None:
            groups.append(group := {})
        group.update({address.port: address for address in ports})
    return groups


def renamed(environment: Mapping[str, str], addresses: Iterable[Address]) -> dict[str, str]:
    """The environment with numeric addresses of the server's replaced by names that lead to a forwarder."""
    literals = {address.host: address.name for address in addresses if address.is_literal}
    if not literals:
        return dict(environment)
    either = "|".join(re.escape(host) for host in literals)
    pattern = re.compile(rf"(?<![\d.])(?:{either})(?![\d.])")

    def replaced(value: str) -> str:
        if "://" in value or value in literals:
            return pattern.sub(lambda found: literals[found.group()], value)
        return value

    return {name: replaced(value) for name, value in environment.items()}


def _of_url(url: str) -> Address | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    return Address(host, port) if host and port and ":" not in host else None


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
