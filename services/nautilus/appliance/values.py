"""What the text of a setting may be: one parser for each kind. Pure; each raises ValueError, saying what would do."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Parser = Callable[[str], Any]
"""Text without surrounding blanks, never empty, to the setting's value."""

HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_YES = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def text(value: str) -> str:
    if any(ord(char) < 32 for char in value):
        raise ValueError("use text without line ends or control characters")
    return value


def count(value: str) -> int:
    if not value.isdecimal() or not value.isascii() or int(value) == 0:
        raise ValueError("use a whole number above 0")
    return int(value)


def port(value: str) -> int:
    number = count(value)
    if number > 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return number


def seconds(value: str) -> int:
    """Seconds, 0 for none; at most two years."""
    if not value.isdecimal() or not value.isascii() or int(value) > 63072000:
        raise ValueError("use a number of seconds from 0 to 63072000 (two years)")
    return int(value)


def switch(value: str) -> bool:
    try:
        return _YES[value.lower()]
    except KeyError:
        raise ValueError("use on or off") from None


def choice(*allowed: str) -> Parser:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"use one of {', '.join(allowed)}")
        return value

    return parse


def address(value: str) -> str:
    """An IPv4 or IPv6 address to listen on."""
    try:
        return str(ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("use an IP address of this machine, 0.0.0.0 for all of them") from None


def host(value: str) -> str:
    """A host name or an IP address (IPv6 without brackets)."""
    try:
        return str(ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        if HOST_NAME.fullmatch(value):
            return value.lower()
        raise ValueError("use a host name such as ml.example.org, or an IP address") from None


def hosts(value: str) -> tuple[str, ...]:
    """Host names and addresses, separated by commas."""
    return tuple(dict.fromkeys(host(part) for part in _parts(value)))


def endpoints(value: str) -> tuple[str, ...]:
    """HOST:PORT, separated by commas; no IPv6."""
    found = []
    for part in _parts(value):
        name, _, number = part.rpartition(":")
        if not name or ":" in name:
            raise ValueError("use HOST:PORT, separated by commas, such as pypi.example.org:443,10.0.0.7:9000")
        found.append(f"{host(name)}:{port(number)}")
    return tuple(dict.fromkeys(found))


def networks(value: str) -> tuple[str, ...]:
    """Networks (CIDR) or addresses, separated by commas."""
    try:
        return tuple(dict.fromkeys(str(ip_network(part)) for part in _parts(value)))
    except ValueError:
        raise ValueError(
            "use addresses or networks, separated by commas, such as 172.20.0.0/16,10.0.0.7"
        ) from None


def url(value: str) -> str:
    """`http(s)://HOST[:PORT]`, lower case, without a slash at the end."""
    shape = "use http://HOST[:PORT] or https://HOST[:PORT]"
    if not value.startswith(("http://", "https://")) or any(char <= " " for char in value):
        raise ValueError(shape)
    try:
        parts = urlsplit(value)
        number = parts.port
    except ValueError:
        raise ValueError(f"{shape}, with a port from 1 to 65535") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{shape}, without a user")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("a path below the host is not supported, use the bare address")
    name = host(parts.hostname or "")
    bare = f"[{name}]" if ":" in name else name
    if number is None or number == {"http": 80, "https": 443}[parts.scheme]:
        return f"{parts.scheme}://{bare}"
    if number == 0:
        raise ValueError(f"{shape}, with a port from 1 to 65535")
    return f"{parts.scheme}://{bare}:{number}"


def resource(value: str) -> str:
    """An http(s) URL, path and all: a package index, a mirror. No user: it would stand in every job's log."""
    if not value.startswith(("http://", "https://")) or not urlsplit(value).hostname:
        raise ValueError("use an address that begins with http:// or https://")
    if "@" in urlsplit(value).netloc:
        raise ValueError("use an address without a user: it would be seen by every job")
    return text(value.rstrip("/"))


def path(value: str) -> Path:
    found = Path(value).expanduser()
    if not found.is_absolute():
        raise ValueError("use an absolute path")
    return found


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
