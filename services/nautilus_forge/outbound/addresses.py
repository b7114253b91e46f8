"""What kind of place an IP address is. Pure, but for `is_own`, which asks the kernel.

Source: gitlabhq lib/gitlab/http_v2/url_blocker.rb (`validate_local_request` and below).
"""

from __future__ import annotations

import ipaddress
import socket

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SHARED = ipaddress.IPv4Network("100.64.0.0/10")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))


def parse(text: str) -> IpAddress:
    """Where packets go: IPv4 inside IPv6 (mapped, NAT64, 6to4, Teredo) is taken out. Raises `ValueError`."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    if inner is None and any(address in network for network in _NAT64):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is None and int(address) >> 32 == 0 and int(address) > 1:
        inner = ipaddress.IPv4Address(int(address))
    return inner or address


def local_kind(address: IpAddress) -> str | None:
    """Why an address is not one of the internet's, in GitLab's words; None where it is."""
    if address.is_unspecified:
        return "Requests to localhost are not allowed"
    if address.is_loopback:
        return "Requests to loopback addresses are not allowed"
    if address.is_link_local:
        return "Requests to the link local network are not allowed"
    if address == _BROADCAST:
        return "Requests to the limited broadcast address are not allowed"
    if address in _SHARED:
        return "Requests to the shared address space are not allowed"
    if not address.is_global or address.is_multicast or address.is_reserved:
        return "Requests to the local network are not allowed"
    return None


def is_never_a_server(address: IpAddress) -> bool:
    """Nobody can be meant by it, whatever the settings allow."""
    return address.is_multicast or address == _BROADCAST


def is_own(address: IpAddress) -> bool:
    """Does this machine answer at the address? It does where a socket can be bound to it."""
    if address.is_unspecified or address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
