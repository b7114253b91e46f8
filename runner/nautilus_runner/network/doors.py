"""Where in its own network a sandbox finds the server, so that a job's URLs mean what they mean elsewhere: pure.

A name gets an address of the loopback device's, told by the sandbox's /etc/hosts; a number is itself made an address
of that device. Ports are as they are: so neither URLs nor certificates know of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.network.addresses import Address

_INLET = Path(__file__).with_name("inlet.py")
_OURS = "127.96.{}.{}"  # in loopback's range, where nothing else is likely to listen
_LOCALHOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Door:
    """`at`: the address in the sandbox, with the port of what it leads to."""

    at: str
    to: Address


def doors(addresses: Iterable[Address]) -> tuple[Door, ...]:
    """One for each address; of two that a job could not tell apart (localhost, 127.0.0.1) the first."""
    places: dict[str, str] = {}
    found: dict[tuple[str, int], Door] = {}
    for address in addresses:
        at = places.setdefault(address.host, _place(address, len(places)))
        found.setdefault((at, address.port), Door(at, address))
    return tuple(found.values())


def hosts_file(present: str, opened: Iterable[Door]) -> str:
    """The machine's /etc/hosts, with the server's names leading to the doors alone."""
    ours = {door.to.host: door.at for door in opened if not door.to.is_literal}
    lines = [f"{at} {name}" for name, at in ours.items() if name != "localhost"]
    for line in present.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if kept := [name for name in names if name == "localhost" or name.lower() not in ours]:
            lines.append(" ".join((address, *kept)))
    return "\n".join(lines) + "\n"


def passage(
    opened: Iterable[Door], hosts: str, uid: int | None, gid: int | None, marker: str
) -> dict[str, str]:
    """What a warden makes its Passage of."""
    places = [{"at": door.at, "port": door.to.port, "to": [door.to.host, door.to.port]} for door in opened]
    config = json.dumps({"doors": places, "uid": uid, "gid": gid})
    return {"program": str(_INLET), "config": config, "hosts": hosts, "marker": marker}


def _place(address: Address, number: int) -> str:
    if address.host in ("localhost", "0.0.0.0"):
        return _LOCALHOST
    if address.is_literal and ":" not in address.host:
        return address.host
    return _OURS.format(number // 250, number % 250 + 1)
