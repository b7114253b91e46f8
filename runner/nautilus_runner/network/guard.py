"""Keeps what comes from jobs' bridges away from some networks: the whole program of a short-lived container.

Run as `python3 -I -S -B -c SOURCE` in the host's network namespace, with CAP_NET_ADMIN and nothing else. `GUARD` in
its environment is JSON: `{"bridges": [names], "blocked": ["169.254.0.0/16"]}`. Per bridge and network it makes
routing rules: DNS goes on as usual (some clouds serve it there), the rest is refused ("administratively prohibited").
Rules of ours for bridges that are gone are removed. Source: rtnetlink(7), linux/fib_rules.h.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator

PREFERENCE = 21690  # of the first rule; the next two follow
PREFIX = "nr-"

_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL = 1, 4, 0x300, 0x400, 0x200
_ERROR, _DONE = 2, 3
_TO_TABLE, _PROHIBIT = 1, 8  # actions
_DST, _IIFNAME, _PRIORITY, _PROTO, _DPORT = 1, 3, 6, 22, 24
_MAIN = 254
_DNS = 53


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def rules(bridge: str, network: str) -> list[bytes]:
    """The bodies of a bridge's rules against one network: two let DNS through, the third refuses the rest."""
    address, _, length = network.partition("/")
    common = attribute(_IIFNAME, bridge.encode() + b"\0") + attribute(_DST, socket.inet_aton(address))
    port = attribute(_DPORT, struct.pack("HH", _DNS, _DNS))

    def rule(action: int, table: int, number: int, rest: bytes) -> bytes:
        head = struct.pack("BBBBBBBBI", socket.AF_INET, int(length or 32), 0, 0, table, 0, 0, action, 0)
        return head + common + attribute(_PRIORITY, struct.pack("I", PREFERENCE + number)) + rest

    let = [
        rule(_TO_TABLE, _MAIN, number, attribute(_PROTO, bytes((protocol,))) + port)
        for number, protocol in enumerate((socket.IPPROTO_UDP, socket.IPPROTO_TCP))
    ]
    return [*let, rule(_PROHIBIT, 0, 2, b"")]


class Kernel:
    """A conversation with the kernel about its rules."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.socket.settimeout(5)

    def send(self, kind: int, flags: int, body: bytes) -> None:
        self.socket.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST | flags, 1, 0) + body)

    def answers(self) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each message, until the last."""
        while True:
            data = self.socket.recv(1 << 16)
            while len(data) >= 16:
                length, kind = struct.unpack_from("IH", data)
                yield kind, data[16:length]
                if kind in (_DONE, _ERROR):
                    return
                data = data[length + 3 & ~3 :]

    def change(self, kind: int, flags: int, body: bytes) -> int:
        """The error's number, 0 where it was done."""
        self.send(kind, flags | _ACK, body)
        for answer, content in self.answers():
            if answer == _ERROR:
                return -int(struct.unpack_from("i", content)[0])
        return 0

    def ours(self) -> list[tuple[str, bytes]]:
        """Bridge and body of each rule that an earlier run made."""
        self.send(_RTM_GETRULE, _DUMP, struct.pack("BBBBBBBBI", socket.AF_INET, *[0] * 8))
        found = []
        for kind, body in self.answers():
            if kind == _RTM_NEWRULE:
                bridge, preference = described(body)
                if bridge.startswith(PREFIX) and PREFERENCE <= preference < PREFERENCE + 3:
                    found.append((bridge, body))
        return found


def described(body: bytes) -> tuple[str, int]:
    """The interface and the preference of a rule."""
    bridge, preference, at = "", -1, 12
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("HH", body, at)
        value = body[at + 4 : at + length]
        if kind == _IIFNAME:
            bridge = value.rstrip(b"\0").decode(errors="replace")
        elif kind == _PRIORITY:
            (preference,) = struct.unpack("I", value[:4])
        at += max(length + 3 & ~3, 4)
    return bridge, preference


def main() -> int:
    wanted = json.loads(os.environ["GUARD"])
    kernel = Kernel()
    for bridge, body in kernel.ours():
        if not os.path.exists(f"/sys/class/net/{bridge}"):  # noqa: PTH110 - pathlib is slow to import
            kernel.change(_RTM_DELRULE, 0, body)
    for bridge in wanted["bridges"]:
        for network in wanted["blocked"]:
            *let, refuse = rules(bridge, network)
            for body in let:
                kernel.change(
                    _RTM_NEWRULE, _CREATE | _EXCL, body
                )  # before Linux 4.17: no such rules, no DNS there
            error = kernel.change(_RTM_NEWRULE, _CREATE | _EXCL, refuse)
            if error not in (0, errno.EEXIST):
                print(f"{network} from {bridge}: {os.strerror(error)}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
