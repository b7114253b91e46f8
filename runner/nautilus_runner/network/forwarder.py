"""Carries TCP connections from jobs' networks to the server: the whole program of a forwarder's container.
What is beside a process job instead (inlet.py) uses `lead`.

Run as `python3 -I -S -B -c SOURCE`; only the standard library is there. `FORWARD` in its environment is JSON,
`{"PORT": ["HOST", PORT], …}`: where what comes in at each port goes. Names that jobs ask it for do not exist:
so a job without a way out learns that at once. Prints `ready` when it listens. Ends by itself once nothing has
come through for long and no server is there any more: its runner starts it again where it is wanted.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

_CHUNK = 1 << 18
_CONNECT_S = 10
_DNS_PORT = 53
_NO_SUCH_NAME = 3
_LOOK_EVERY_S = 60
_LOST_AFTER = 15  # looks in a row at which nobody was there


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until its end."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def until_lost(targets: list[tuple[str, int]], carried: list[int]) -> None:
    """Returns when none of the targets answered, and no connection was carried, at so many looks in a row.

    `carried`: one number, how many there are at this moment.
    """
    lost = 0
    while lost < _LOST_AFTER:
        await asyncio.sleep(_LOOK_EVERY_S)
        answers = await asyncio.gather(*(is_there(*target) for target in targets))
        lost = 0 if carried[0] or any(answers) else lost + 1


async def is_there(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def handler(
    host: str, port: int, carried: list[int]
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried[0] += 1
        try:
            await handle(reader, writer)
        finally:
            carried[0] -= 1

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                there, back = await asyncio.open_connection(host, port, limit=_CHUNK)
        except (OSError, TimeoutError) as error:
            print(f"{host}:{port}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            writer.transport.abort()
            return
        await asyncio.gather(carry(reader, back), carry(there, writer))
        for end in (back, writer):
            end.close()

    return counted


async def lead(ways: Iterable[tuple[socket.socket, str, int]]) -> None:
    """Pass on what comes in at each listening socket to its host and port, until this process ends."""
    for listener, host, port in ways:
        await asyncio.start_server(handler(host, port, [0]), sock=listener, limit=_CHUNK, backlog=512)
    await asyncio.Event().wait()


class NoNames(asyncio.DatagramProtocol):
    """Answers every question of DNS with "no such name"."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) >= 12:
            flags = bytes((data[2] & 0x79 | 0x80, 0x80 | _NO_SUCH_NAME))
            self.transport.sendto(data[:2] + flags + data[4:6] + bytes(6) + data[12:], addr)


async def main() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    forward, carried = json.loads(os.environ["FORWARD"]), [0]
    for port, (host, there) in forward.items():
        listener = handler(host, there, carried)
        await asyncio.start_server(listener, "0.0.0.0", int(port), limit=_CHUNK, backlog=512)
    await loop.create_datagram_endpoint(NoNames, ("0.0.0.0", _DNS_PORT))
    print("ready", flush=True)
    ends = [
        asyncio.create_task(ended.wait()),
        asyncio.create_task(until_lost(list(map(tuple, forward.values())), carried)),
    ]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    asyncio.run(main())
