"""Which address leads to what, from outside and from a job: derived from one external URL. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """Host name or address (IPv6 without brackets)."""
    return urlsplit(url).hostname or "localhost"


def port_of(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def make_url(scheme: str, host: str, port: int) -> str:
    """Without the port where it is the scheme's own."""
    bare = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bare}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{bare}:{port}"


def with_port(url: str, port: int) -> str:
    """The same scheme and host at another port, which is always written out."""
    host = host_of(url)
    return f"{urlsplit(url).scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_address(host: str) -> bool:
    """An IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """A name or address that means another machine to whoever reads it elsewhere, a container for one."""
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or (is_address(host) and ip_address(host).is_loopback)
    )
