"""A container's output into a file: live by attaching before it starts, again from the daemon's log after a restart.

Both streams of the container are counted apart, since the daemon keeps each in order but not the two together.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

log = logging.getLogger(__name__)

_HEADER = 8
_RECEIVE = 1 << 18
_SETTLE_S = 3.0
LOST = "OutputLost"  # in a state: why the output could not be read to its end
_STREAMS = {1: "out", 2: "err"}


class ContainerOutput:
    """Copies one run of a container into `path`, in a thread of its own.

    `skip`: bytes of each stream that belong to earlier runs of the same container. `on_data` and `on_end` are
    called in that thread; `on_end` once, with the container's state as the daemon last told it (None: it is gone).
    """

    def __init__(
        self,
        api: Any,
        container: str,
        path: Path,
        skip: dict[str, int],
        on_data: Callable[[], None],
        on_end: Callable[[dict[str, Any] | None], None],
    ) -> None:
        self._api = api
        self._container = container
        self._path = path
        self._skip = dict(skip)
        self._seen = {"out": 0, "err": 0}
        self._on_data = on_data
        self._on_end = on_end
        self._socket: Any = None
        self._owner_of_socket: Any = None

    @property
    def totals(self) -> dict[str, int]:
        """Bytes of each stream up to now, all runs of the container together."""
        return {name: self._skip[name] + self._seen[name] for name in self._skip}

    def attach(self) -> None:
        """Before the container starts: not a byte is missed. Its input is ours, and ends with us. Blocking."""
        params = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1, "logs": 0}
        opened = self._api.attach_socket(self._container, params)
        self._owner_of_socket = opened  # closing it closes the connection; it must not be collected
        self._socket = getattr(opened, "_sock", opened)
        self._socket.settimeout(None)

    def begin(self) -> None:
        """The word that the container waits for. One that has ended already is told by its state."""
        with contextlib.suppress(OSError):
            self._socket.sendall(b"go\n")

    def has_any(self) -> bool:
        """Whether the daemon's log has something of this run. Blocking."""
        return any(self._fresh(self._logged(follow=False), self._skip))

    def follow(self) -> None:
        """Copy until the container has ended; returns at once."""
        threading.Thread(target=self._run, name="container-output", daemon=True).start()

    def close(self) -> None:
        """Stop copying: the runner detaches, or the container is removed."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        state: dict[str, Any] | None = None
        try:
            with self._path.open("wb", buffering=0) as out:
                if self._socket is not None:
                    self._copy(frames(self._received()), out, {"out": 0, "err": 0})
                    self._owner_of_socket.close()
                state = self._state()
                while state is not None and state.get("Running"):
                    self._copy_log(out, follow=True)
                    state = self._state()
                if state is not None:
                    self._copy_log(out, follow=False)
        except (OSError, APIError, ValueError) as error:
            log.warning("container %s: its output is lost: %s", self._container[:12], error)
            state = self._settled_state()
            if state is not None:
                state = {**state, LOST: str(error)}
        self._on_end(state)

    def _settled_state(self) -> dict[str, Any] | None:
        """The state once the daemon has made up its mind: a container that is being removed is soon gone."""
        deadline = time.monotonic() + _SETTLE_S
        while (state := self._state()) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        return state

    def _received(self) -> Iterator[bytes]:
        with contextlib.suppress(ConnectionError, TimeoutError):
            while data := self._socket.recv(_RECEIVE):
                yield data

    def _copy_log(self, out: Any, *, follow: bool) -> None:
        """What the daemon's log has beyond what we have."""
        self._copy(self._logged(follow=follow), out, self.totals)

    def _logged(self, *, follow: bool) -> Iterator[tuple[str, bytes]]:
        url = self._api._url("/containers/{0}/logs", self._container)
        params = {"stdout": 1, "stderr": 1, "follow": int(follow)}
        response = self._api._get(url, params=params, stream=True, timeout=None)
        self._api._raise_for_status(response)
        with contextlib.closing(response):
            yield from frames(response.raw.stream(_RECEIVE, decode_content=False))

    def _copy(self, pieces: Iterable[tuple[str, bytes]], out: Any, skip: dict[str, int]) -> None:
        for name, data in self._fresh(pieces, skip):
            out.write(data)
            self._seen[name] += len(data)
            self._on_data()

    @staticmethod
    def _fresh(pieces: Iterable[tuple[str, bytes]], skip: dict[str, int]) -> Iterator[tuple[str, bytes]]:
        """Without the first `skip` bytes of each stream."""
        left = dict(skip)
        for name, piece in pieces:
            skipped = min(left[name], len(piece))
            left[name] -= skipped
            if data := piece[skipped:]:
                yield name, data

    def _state(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = self._api.inspect_container(self._container)["State"]
        except NotFound:
            return None
        return None if state.get("Status") in ("removing", "dead") else state


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Docker's multiplexed stream taken apart: the stream's name, and bytes of it.

    Source: Docker Engine API, "Attach to a container", stream format.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        at = 0
        run: list[bytes] = []
        name = "out"
        while len(buffer) - at >= _HEADER:
            kind, size = struct.unpack_from(">BxxxL", buffer, at)
            if len(buffer) - at - _HEADER < size:
                break
            stream = _STREAMS.get(kind, "out")
            if run and stream != name:
                yield name, b"".join(run)
                run = []
            name = stream
            run.append(bytes(buffer[at + _HEADER : at + _HEADER + size]))
            at += _HEADER + size
        if run:
            yield name, b"".join(run)
        del buffer[:at]
