"""Which TCP ports of this machine are listened on, read from the kernel: nobody is connected to, so nobody
who counts or logs connections (sshd) is bothered by being asked each second.

Source: proc_pid_net(5), `/proc/net/tcp`.
"""

from __future__ import annotations

from pathlib import Path

_LISTEN = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def is_listened_on(port: int, tables: tuple[Path, ...] = _TABLES) -> bool:
    """Whether any address of this machine accepts connections on that port."""
    wanted = f"{port:04X}"
    for table in tables:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN and local.rpartition(":")[2] == wanted:
                return True
    return False
