"""Second machines for drills: a network namespace whose cable can be pulled, a disk that is small. Needs root."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nautilus_runner.testing.running import RunnerProcess

_CHUNK = 1 << 16


class Cable:
    """A TCP way from somebody to a port of the loopback; `on_answer` sees what comes back before it is passed on.

    `pass_answer` False swallows everything from then on, in both directions, as a cut cable does: no end, no error.
    """

    def __init__(self, address: str, port: int) -> None:
        self._target = port
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]
        self.is_cut = False
        self.on_answer: Callable[[bytes], None] = lambda data: None
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._sockets += [client, server]
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with selectors.DefaultSelector() as ready, client, server:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in ready.select():
                        source: socket.socket = key.fileobj  # type: ignore[assignment]
                        data = source.recv(_CHUNK)
                        if self.is_cut:
                            continue
                        if not data:
                            return
                        key.data.sendall(data)
                        if source is server:
                            self.on_answer(data)
            except OSError:
                return


class NetworkNamespace:
    """A machine of its own as far as the network knows; `address` is this side of its only cable."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self._link = f"ndrill{number}"
        self.address = f"10.213.{number}.1"
        self._there = f"10.213.{number}.2"

    def make(self) -> None:
        inside = f"{self._link}i"
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", inside, "netns", self.name)
        _ip("addr", "add", f"{self.address}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "addr", "add", f"{self._there}/30", "dev", inside)
        _ip("-n", self.name, "link", "set", inside, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def pull_cable(self) -> None:
        _ip("link", "set", self._link, "down")

    def plug_cable(self) -> None:
        _ip("link", "set", self._link, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


@contextmanager
def network_namespace(number: int) -> Iterator[NetworkNamespace]:
    """`number`: one that no other test uses at the same time, 0 to 255."""
    machine = NetworkNamespace(f"nautilus-drill-{os.getpid()}-{number}", number)
    machine.remove()
    try:
        machine.make()
        yield machine
    finally:
        machine.remove()


@contextmanager
def small_disk(image: Path, at: Path, size_mib: int) -> Iterator[Path]:
    """An ext4 of its own, on a loop device, mounted at `at`."""
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True, capture_output=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False, capture_output=True)


class DrilledRunner(RunnerProcess):
    """The service on another machine: in a network namespace, with a wall clock that is wrong by `clock_s`."""

    def __init__(self, data_dir: Path, namespace: str = "", clock_s: float = 0.0) -> None:
        super().__init__(data_dir)
        self.clock_s = clock_s
        self._namespace = namespace

    def start(self) -> None:
        command = [sys.executable, "-m", "nautilus_runner", "run", "--config", str(self.config)]
        if self._namespace:
            command = ["ip", "netns", "exec", self._namespace, *command]
        environment = dict(os.environ)
        if self.clock_s:
            environment["PYTHONPATH"] = f"{self._wrong_clock()}:{environment.get('PYTHONPATH', '')}"
        with (self.data_dir / "runner.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def _wrong_clock(self) -> Path:
        """A folder that shifts the wall clock of any Python that has it on its path; no other clock."""
        folder = self.data_dir / "wrong-clock"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(
            "import time\n_now = time.time\n" + f"time.time = lambda: _now() + {self.clock_s}\n"
        )
        return folder


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
