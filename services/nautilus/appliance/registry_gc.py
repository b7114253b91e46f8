"""Garbage collection of the container registry: writes stop, what no tag leads to goes, writes go on.

The registry is restarted read-only, because nothing may be pushed meanwhile, and restarted again at the end. A
guard, a process of its own, does the last step where this one is killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from nautilus.appliance.accounts import Accounts
from nautilus.appliance.errors import ApplianceError, RegistryFailed
from nautilus.appliance.folders import is_locked
from nautilus.appliance.layout import Layout
from nautilus.appliance.registry_storage import Storage, UnreadableManifest
from nautilus.appliance.supervisor import Supervisor

PROGRAM = "registry"
_PATIENCE_S = 30.0
_ELIGIBLE = re.compile(rb"(\d+) blobs marked, (\d+) blobs and")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Collected:
    """What was found and taken away."""

    repositories: int
    manifests_deleted: int
    blobs_deleted: int
    bytes_before: int
    bytes_after: int

    @property
    def bytes_freed(self) -> int:
        return max(0, self.bytes_before - self.bytes_after)


def collect(layout: Layout, who: Accounts, program: str, report: Report) -> Collected:
    """Runs to the end or raises RegistryFailed; the registry takes writes again in any case."""
    if not layout.registry_configuration.exists():
        raise RegistryFailed("the container registry has never been started here: `nautilus up` starts it")
    with _without_writes(layout, report):
        return _collect(layout, who, program, report)


def _collect(layout: Layout, who: Accounts, program: str, report: Report) -> Collected:
    storage = Storage(layout.registry)
    before = storage.used_bytes()
    if storage.is_empty:
        return Collected(0, 0, 0, before, before)
    repositories = storage.repositories()
    manifests = 0
    for number, name in enumerate(repositories, 1):
        report(f"looking at {name} ({number} of {len(repositories)})")
        try:
            manifests += storage.prune(name)
        except UnreadableManifest as error:
            raise RegistryFailed(
                f"{name} has a manifest that can't be read ({error}): nothing more was deleted"
            ) from error
    blobs = _collect_blobs(layout, who, program, report)
    for name in storage.repositories():
        storage.drop_dangling_layers(name)
    return Collected(len(repositories), manifests, blobs, before, storage.used_bytes())


def _collect_blobs(layout: Layout, who: Accounts, program: str, report: Report) -> int:
    """`docker-registry garbage-collect`, as the registry's own user; how many blobs it deleted."""
    process = subprocess.Popen(
        [program, "garbage-collect", str(layout.registry_configuration)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd="/",
        **who.service_process(),
    )
    assert process.stdout is not None
    last, total, deleted = b"", 0, 0
    for line in process.stdout:
        last = line.strip() or last
        if found := _ELIGIBLE.search(line):
            total = int(found[2])
            report(f"{total} of {int(found[1]) + total} blobs are named by nothing")
        elif line.startswith(b"blob eligible for deletion"):
            deleted += 1
            if deleted % 50 == 0 or deleted == total:
                report(f"deleting blobs ({deleted} of {total})")
    if process.wait() != 0:
        raise RegistryFailed(f"garbage collection failed: {last.decode('utf-8', 'replace')[:500]}")
    return deleted


@contextmanager
def _without_writes(layout: Layout, report: Report) -> Iterator[None]:
    """While the block runs, the registry is read-only, or does not run at all. Raises RegistryFailed."""
    fd = os.open(layout.registry_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise RegistryFailed("a garbage collection runs already: wait for its end") from error
    if not is_locked(layout):
        with os.fdopen(fd, "r"):
            yield
        return
    guard = _start_guard(layout, fd)
    try:
        report("restarting the registry without writes")
        restart(layout)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
        report("restarting the registry with writes")
        try:
            restart(layout)
        finally:
            guard.dismiss()


def restart(layout: Layout) -> None:
    """Returns when the registry listens again. Raises RegistryFailed, NotRunning."""
    Supervisor(layout).restart(PROGRAM)
    end = time.monotonic() + _PATIENCE_S
    while not _does_listen(layout):
        if time.monotonic() > end:
            raise RegistryFailed("the registry did not come back: see `nautilus logs registry`")
        time.sleep(0.05)


def _does_listen(layout: Layout) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(layout.registry_socket))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class _Guard:
    """A child that restarts the registry when we end without a word to it."""

    pid: int
    word: int

    def dismiss(self) -> None:
        os.write(self.word, b".")
        os.close(self.word)
        os.waitpid(self.pid, 0)


def _start_guard(layout: Layout, lock: int) -> _Guard:
    hears, word = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            os.close(word)
            os.close(lock)
            if not os.read(hears, 1):
                restart(layout)
            status = 0
        except (ApplianceError, OSError):
            status = 1
        finally:
            os._exit(status)
    os.close(hears)
    return _Guard(pid, word)
