"""supervisord as it is, but awake: it starts its programs at once and acts on a signal when it comes.

supervisord 4 waits up to a second before the first program is started, and as long again before it looks at a
signal (SIGTERM, a program's end): its poll() is begun anew after a signal. Measured: 1.0 s of each start.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import Any

from supervisor import poller, supervisord


class AwakePoller(poller.Poller):  # type: ignore[misc]
    """The first look waits for nothing; later ones end with a signal as well as with output of a program."""

    _wakes: socket.socket | None = None

    def poll(self, timeout: float | None) -> tuple[list[int], list[int]]:
        if self._wakes is None:
            self._wakes = self._signals()
            timeout = 0
        readable, writable = super().poll(timeout)
        if (fd := self._wakes.fileno()) in readable:
            with contextlib.suppress(BlockingIOError):
                self._wakes.recv(4096)
            readable = [other for other in readable if other != fd]
        return readable, writable

    def _signals(self) -> socket.socket:
        """Readable as soon as a signal came. Made at the first look: a reload closes what was open before it."""
        wakes, self._written = socket.socketpair()
        for end in (wakes, self._written):
            end.setblocking(False)
        signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        self.register_readable(wakes.fileno())
        return wakes

    def close(self) -> Any:
        signal.set_wakeup_fd(-1)
        return super().close()


def main() -> None:
    poller.Poller = AwakePoller
    supervisord.main()


if __name__ == "__main__":
    main()
