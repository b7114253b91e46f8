"""How a script's warden has its sandbox led to the server: what bubblewrap and the inlet are given.

Loaded by the warden alone, which imports no package: only what it has imported itself is used here. bubblewrap says
on one pipe which process it made (`--info-fd`), and begins the script when a byte comes on another (`--block-fd`).
The inlet (inlet.py) gets the other ends. We keep one of the second pipe: were it closed, the script would begin too.
Source: bwrap(1).
"""

# as in the warden:

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INFO, BLOCK, HOSTS = "@info", "@block", "@hosts"
"""Words of bubblewrap's command that stand for numbers of files, which are known only here."""


class Passage:
    """Of one script. `config` is the inlet's; `hosts` the sandbox's /etc/hosts; `marker`: NAME=VALUE in the inlet's
    environment that says whose process it is."""

    def __init__(self, program: str, config: str, hosts: str, marker: str) -> None:
        self.pid = -1
        self._program = program
        name, _, value = marker.partition("=")
        self._environment = {"LC_ALL": "C.UTF-8", "INLET": config, name: value}
        info_r, info_w = os.pipe2(os.O_CLOEXEC)
        block_r, block_w = os.pipe2(os.O_CLOEXEC)
        names = os.memfd_create("hosts", os.MFD_CLOEXEC)
        os.write(names, hosts.encode())
        os.lseek(names, 0, os.SEEK_SET)
        self._given = {INFO: info_w, BLOCK: block_r, HOSTS: names}
        self._ours = (info_r, block_w)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command with the numbers of its files; for the process that is about to become it."""
        for fd in self._given.values():
            os.set_inheritable(fd, True)
        return [str(self._given.get(word, word)) for word in argv]

    def open(self) -> None:
        """Start the inlet; the command was begun before."""
        for fd in self._given.values():
            os.close(fd)
        argv = [sys.executable, "-I", "-S", "-B", self._program, *map(str, self._ours)]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for number in (signal.SIGTERM, signal.SIGUSR1):  # the job may need the server while it ends
                    signal.signal(number, signal.SIG_IGN)
                for fd in self._ours:
                    os.set_inheritable(fd, True)
                os.execve(argv[0], argv, self._environment)
            finally:
                os._exit(127)
