"""One download: into a part file that a cut or a restart can be continued from, hashed as it grows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nautilus_runner.data.outbound import Outbound
from nautilus_runner.data.sources import Source, refused
from nautilus_runner.disk import mib
from nautilus_runner.errors import DataFailed, DiskFull, UnavailableError
from nautilus_runner.transport import Answer

_CHUNK = 1 << 20
_LOOK_EVERY = 64 << 20  # bytes between two looks at the disk
_TRIES = 12  # without a byte in between
_MAX_WAIT_S = 20.0
Room = Callable[[int], None]
"""Raises DiskFull where so many more bytes have no room; makes some before. Blocking."""


@dataclass(frozen=True, slots=True)
class Done:
    sha256: str
    size: int
    etag: str


class Download:
    """`received` and `size` (0: unknown) are for those who wait.

    `source` may be replaced, by the same with credentials that are good for longer.
    """

    def __init__(self, source: Source, part: Path, room: Room, expected: str = "") -> None:
        self.source = source
        self.received = 0
        self.size = 0
        self.note = ""
        self.part = part
        self._room = room
        self._expected = expected
        self._digest = hashlib.sha256()
        self._etag = ""
        self._unchecked = 0

    async def run(self, outbound: Outbound) -> Done:
        """Raises DataFailed (refused, not there, wrong hash), DiskFull, UnavailableError (cut too often)."""
        await asyncio.to_thread(self._take_up)
        was_resumed = self.received > 0
        try:
            await self._until_whole(outbound)
        except DiskFull:
            await asyncio.to_thread(self._forget)  # it holds room that others could use
            raise
        found = self._digest.hexdigest()
        if self._expected and found != self._expected and was_resumed:
            # what an earlier runner left may be of an older version: once more, from the beginning
            await asyncio.to_thread(self._restart)
            await self._until_whole(outbound)
            found = self._digest.hexdigest()
        if self._expected and found != self._expected:
            size = self.received
            await asyncio.to_thread(self._forget)
            raise DataFailed(
                f"{self._shown}: its SHA-256 is {found}, not {self._expected} as asked for ({mib(size)})"
            )
        await asyncio.to_thread(self._sync)
        return Done(found, self.received, self._etag)

    async def _until_whole(self, outbound: Outbound) -> None:
        failures = 0
        while True:
            before = self.received
            try:
                await self._once(outbound)
                return
            except UnavailableError as error:
                failures = 1 if self.received > before else failures + 1
                self.note = f"{error}; tried again from {mib(self.received)}"
                if failures >= _TRIES:
                    raise
                wait_s = error.retry_after_s or min(0.25 * 2.0**failures, _MAX_WAIT_S)
                await asyncio.sleep(wait_s)

    async def _once(self, outbound: Outbound) -> None:
        url, headers = self.source.open("GET")
        if self.received:
            headers = {**headers, "Range": f"bytes={self.received}-"}
            if self._etag:
                headers["If-Range"] = self._etag
        async with outbound.stream("GET", url, headers) as (answer, body):
            if answer.status == 416 and self.received:
                if _total(answer) == self.received:
                    return
                await asyncio.to_thread(self._restart)
                raise UnavailableError("the file has become another one")
            if answer.is_transient:
                raise UnavailableError(
                    f"the server answered {answer.status}", answer.status, answer.retry_after_s
                )
            if answer.status not in (200, 206):
                raise refused(self._shown, answer.status)
            await self._begin(answer)
            await self._receive(body)
        if self.size and self.received < self.size:
            raise UnavailableError(f"the connection ended at {mib(self.received)} of {mib(self.size)}")

    async def _begin(self, answer: Answer) -> None:
        """Where the body's first byte belongs, and room for the rest."""
        start = _start(answer) if answer.status == 206 else 0
        if start != self.received:
            if start:
                raise UnavailableError("the server sent another range than it was asked for")
            await asyncio.to_thread(self._restart)
        length = answer.headers.get("content-length", "")
        rest = int(length) if length.isdigit() else 0
        self.size = self.received + rest if rest or length else 0
        if answer.status == 200 or not self._etag:
            etag = answer.headers.get("etag", "")
            self._etag = "" if etag.startswith("W/") else etag
        await asyncio.to_thread(self._prepare, rest)

    async def _receive(self, body: AsyncIterator[bytes]) -> None:
        fd = await asyncio.to_thread(self._open)
        held: list[bytes] = []
        size = 0
        try:
            async for data in body:
                held.append(data)
                size += len(data)
                if size >= _CHUNK:
                    block, held, size = b"".join(held), [], 0
                    await _undisturbed(self._write, fd, block)
        finally:
            try:
                if held:  # also what came before a cut
                    await _undisturbed(self._write, fd, b"".join(held))
            finally:
                os.close(fd)

    # ---- in threads

    def _write(self, fd: int, data: bytes) -> None:
        self._unchecked += len(data)
        if self._unchecked >= _LOOK_EVERY or not self.size:
            self._unchecked = 0
            self._room(len(data))
        view = memoryview(data)
        with self._told():
            while view:
                written = os.write(fd, view)
                self._digest.update(view[:written])
                self.received += written
                view = view[written:]

    def _open(self) -> int:
        with self._told():
            return os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the disk refuses, in words; an OSError would be taken for the network's."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                whole = mib(self.size) if self.size else "an unknown size"
                raise DiskFull(
                    f"the disk is full: {mib(self.received)} of {whole} of {self._shown} were written"
                ) from error
            raise DataFailed(f"{self._shown} can't be written: {error.strerror or error}") from error

    @property
    def _shown(self) -> str:
        return self.source.name.partition("?")[0]

    def _prepare(self, rest: int) -> None:
        self._room(rest)
        state = {"etag": self._etag, "name": self.source.name, "boot": _boot()}
        with self._told():
            self.part.with_suffix(".json").write_text(json.dumps(state))

    def _take_up(self) -> None:
        """What an earlier attempt received; without a strong ETag only where the hash will tell whether it fits."""
        state: dict[str, Any] = {}
        try:
            state = json.loads(self.part.with_suffix(".json").read_bytes())
            size = self.part.stat().st_size
        except (OSError, ValueError):
            size = 0
        # what was not on disk when the machine went down is not there: only a hash could tell
        is_ours = state.get("etag") and state.get("boot") == _boot()
        if not size or not (is_ours or self._expected):
            self._restart()
            return
        self._etag = str(state.get("etag", ""))
        with self.part.open("rb") as file:
            while data := file.read(_CHUNK):
                self._digest.update(data)
                self.received += len(data)

    def _restart(self) -> None:
        self.part.unlink(missing_ok=True)
        self._digest = hashlib.sha256()
        self.received, self._etag = 0, ""

    def _forget(self) -> None:
        self._restart()
        self.part.with_suffix(".json").unlink(missing_ok=True)

    def _sync(self) -> None:
        """On disk before it is named after its hash; a file of no bytes was never opened."""
        fd = self._open()
        try:
            with self._told():
                os.fsync(fd)
        finally:
            os.close(fd)
        self.part.with_suffix(".json").unlink(missing_ok=True)


async def _undisturbed(call: Callable[..., None], *args: Any) -> None:
    """A call in a thread that is over when this returns, also when we are cancelled meanwhile."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.gather(work, return_exceptions=True)
        raise


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start(answer: Answer) -> int:
    first = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _total(answer: Answer) -> int:
    total = answer.headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else -1
