"""What an instance's settings say about requests to local addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from nautilus_forge.appsettings.values import SettingValues
from nautilus_forge.outbound.addresses import IpAddress
from nautilus_forge.settings import Settings

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Allowed:
    """One entry of `outbound_local_requests_whitelist`: a domain, an address or a network; `port` None: any."""

    domain: str | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    port: int | None

    def fits_domain(self, host: str, port: int) -> bool:
        return self.domain == host and self.port in (None, port)

    def fits_address(self, address: IpAddress, port: int) -> bool:
        return self.network is not None and address in self.network and self.port in (None, port)


@dataclass(frozen=True)
class OutboundRules:
    """`own_ports`: of the appliance, at this machine's addresses: never reached. `own_hosts`: where it is reached
    from outside, as (host, port): never reached either.
    """

    allow_local: bool = False
    deny_others: bool = False
    allowlist: tuple[Allowed, ...] = ()
    own_ports: frozenset[int] = frozenset()
    own_hosts: frozenset[tuple[str, int]] = frozenset()

    def allows_domain(self, host: str, port: int) -> bool:
        return any(entry.fits_domain(host, port) for entry in self.allowlist)

    def allows_address(self, address: IpAddress, port: int) -> bool:
        return any(entry.fits_address(address, port) for entry in self.allowlist)


def rules_for(settings: Settings, values: SettingValues, *, allow_local: bool | None = None) -> OutboundRules:
    """Of imports and webhooks; `allow_local` where another switch decides (system hooks)."""
    local = values.allow_local_requests_from_web_hooks_and_services if allow_local is None else allow_local
    return OutboundRules(
        allow_local=local,
        deny_others=values.deny_all_requests_except_allowed,
        allowlist=tuple(_allowed(entry) for entry in values.outbound_local_requests_whitelist),
        own_ports=settings.appliance_ports,
        own_hosts=frozenset(_own_hosts(settings)),
    )


def _own_hosts(settings: Settings) -> Iterable[tuple[str, int]]:
    for url in (settings.external_url, settings.registry_external_url):
        parts = urlsplit(url or "")
        if parts.hostname:
            yield parts.hostname.lower(), parts.port or _DEFAULT_PORTS[parts.scheme]


def _allowed(entry: str) -> Allowed:
    """`10.0.0.0/8`, `10.0.0.1:8080`, `[::1]:80`, `example.com:443`. Source: url_blockers/url_allowlist.rb."""
    network = _network(entry)
    if network is not None:
        return Allowed(None, network, None)
    host, colon, port = entry.rpartition(":")
    if not colon or not port.isdigit():
        return Allowed(entry.lower(), None, None)
    network = _network(host.removeprefix("[").removesuffix("]"))
    return Allowed(None if network is not None else host.lower(), network, int(port))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
