"""The inputs of this machine's jobs: wanted by several at once they come once, and stay for the next.

resolve   which address, with whose credentials        sources.py
known?    the content that it had, asked again where nothing says that it is the same
download  joined by all who want the same              download.py
hold      kept from being removed while the job lives  store.py
unpack    once for all who want it unpacked            files/unpacking.py, files/untarring.py
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from nautilus_runner.data.download import Done, Download
from nautilus_runner.data.outbound import Outbound
from nautilus_runner.data.sources import Access, Source, refused, source_of
from nautilus_runner.data.store import Known, Store
from nautilus_runner.data.trees import unpack
from nautilus_runner.data.wishes import Input, without_secrets
from nautilus_runner.disk import MIB, Reserve, mib
from nautilus_runner.errors import DataFailed, DiskFull, UnavailableError
from nautilus_runner.persistence import persistently
from nautilus_runner.storage_settings import DataSettings

log = logging.getLogger(__name__)

Say = Callable[[str], None]
_TELL_EVERY_S = 10.0
_FIRST_TELL_S = 2.0
_TRIES = 8
_HOLD_TRIES = 5


@dataclass(frozen=True, slots=True)
class Held:
    """An input that is here and kept: `name` in the store, what a job finds at `path` below its project folder."""

    name: str  # blobs/<sha256> or trees/<sha256>
    path: str
    size: int


@dataclass(slots=True)
class _Joined:
    """A download and those who wait for it, by whose credentials it can go on while they live."""

    download: Download
    task: asyncio.Task[Done]
    sources: list[Source] = field(default_factory=list)


class DataHub:
    """One for the machine. `configure` may come at any time."""

    def __init__(self, folder: Path, reserve: Reserve) -> None:
        self.store = Store(folder)
        self.settings = DataSettings()
        self._reserve = reserve
        self._downloads: dict[str, _Joined] = {}
        self._unpacking: dict[str, asyncio.Lock] = {}
        self._room = asyncio.Semaphore(self.settings.downloads)

    def configure(self, settings: DataSettings) -> None:
        if settings.downloads != self.settings.downloads:
            self._room = asyncio.Semaphore(settings.downloads)
        self.settings = settings

    async def provide(
        self, job: str, wanted: Input, access: Access, outbound: Outbound, say: Say, unpack_limit: int
    ) -> Held:
        """Have an input here, held for `job`. Raises DataFailed, DiskFull, JobMisconfigured."""
        await asyncio.to_thread(self.store.open)
        shown = without_secrets(wanted.url)
        for _ in range(_HOLD_TRIES):  # what others need may push it out before we hold it
            sha256 = await self._content(wanted, access, outbound, say, shown)
            if not await asyncio.to_thread(self.store.hold, job, f"blobs/{sha256}"):
                continue
            name = f"blobs/{sha256}"
            if wanted.is_unpacked:
                name = f"trees/{sha256}"
                await self._unpacked(sha256, shown, say, unpack_limit)
                if not await asyncio.to_thread(self.store.hold, job, name):
                    continue
            record = await asyncio.to_thread(self.store.find, name)
            if record is not None:
                return Held(name, wanted.path, record.size)
        raise DiskFull(
            f"{shown}: what jobs need at this time does not fit into {self.settings.limit_mib} MiB"
        )

    def release(self, job: str) -> None:
        """The job uses nothing any more; costs nothing where it used nothing."""
        self.store.release(job)

    # ---- content

    async def _content(self, wanted: Input, access: Access, outbound: Outbound, say: Say, shown: str) -> str:
        try:
            source = await persistently(lambda: source_of(wanted, access, outbound), _TRIES)
        except UnavailableError as error:
            raise DataFailed(f"{shown}: {error}") from error
        expected = wanted.sha256 or source.sha256
        if wanted.sha256 and source.sha256 and wanted.sha256 != source.sha256:
            raise DataFailed(f"{shown}: is {source.sha256} by its own name, not {wanted.sha256} as asked for")
        if (kept := await self._kept(source, expected, outbound, shown)) is not None:
            say(f"{wanted.path}: {mib(kept.size)} of {shown} are here already (sha256 {kept.sha256[:12]})")
            return kept.sha256
        done = await self._joined(source, expected, access, say, f"{wanted.path}: {shown}")
        say(f"{wanted.path}: {mib(done.size)} of {shown} fetched (sha256 {done.sha256})")
        return done.sha256

    async def _kept(self, source: Source, expected: str, outbound: Outbound, shown: str) -> Known | None:
        """What we have of this address, if it still is what is wanted. Where no hash says so, its server is asked."""
        known = await asyncio.to_thread(self.store.known, source.key)
        if known is None or (expected and known.sha256 != expected):
            return None
        if await asyncio.to_thread(self.store.find, f"blobs/{known.sha256}") is None:
            return None
        if expected or await self._is_still(source, known, outbound, shown):
            return known
        return None

    async def _is_still(self, source: Source, known: Known, outbound: Outbound, shown: str) -> bool:
        """By ETag and size, where the server tells them. A server that is away keeps nobody from what is here.

        Asked for the first byte: a signed address may be good for GET alone.
        """
        url, headers = source.open("GET")
        try:
            async with outbound.stream("GET", url, {**headers, "Range": "bytes=0-0"}) as (answer, _):
                pass
        except UnavailableError as error:
            log.warning("%s: %s; what is here is used", shown, error)
            return True
        if answer.status in (401, 403, 404, 410):
            raise refused(shown, answer.status)
        size = answer.headers.get("content-range", "").rpartition("/")[2]
        if answer.status == 200:
            size = answer.headers.get("content-length", "")
        is_same_size = not size.isdigit() or int(size) == known.size
        return bool(known.etag) and answer.headers.get("etag") == known.etag and is_same_size

    async def _joined(self, source: Source, expected: str, access: Access, say: Say, label: str) -> Done:
        """The download of this content from this address: the one that is under way, else a new one."""
        key = f"{source.key}-{expected}"
        while (joined := self._downloads.get(key)) is not None and not joined.sources:
            await asyncio.wait({joined.task})  # given up by its last one: its file is not ours yet
            await asyncio.sleep(0)
        if joined is None:
            part = self.store.folder / "partial" / hashlib.sha256(key.encode()).hexdigest()
            download = Download(source, part, self._make_room, expected)
            task = asyncio.create_task(self._download(download, access))
            task.add_done_callback(lambda _: self._downloads.pop(key, None))
            joined = self._downloads[key] = _Joined(download, task)
        else:
            say(f"{label} is on its way already, for another job")
        joined.sources.append(source)
        try:
            await self._watch(joined, say, label)
            return await asyncio.shield(joined.task)
        except UnavailableError as error:
            raise DataFailed(f"{label}: {error}") from error
        finally:
            joined.sources.remove(source)
            if joined.sources:
                joined.download.source = joined.sources[-1]
            else:
                joined.task.cancel()  # nobody is left: what has come stays, for the next
                await asyncio.gather(joined.task, return_exceptions=True)

    async def _download(self, download: Download, access: Access) -> Done:
        source = download.source
        self.store.active.add(download.part.name)
        try:
            async with self._room, outbound_for(access, self.settings) as outbound:
                done = await download.run(outbound)
            url = source.name.partition("?")[0]
            await asyncio.to_thread(self.store.add_blob, download.part, done.sha256, url)
        finally:
            self.store.active.discard(download.part.name)
        await asyncio.to_thread(self.store.learn, source.key, Known(done.sha256, done.size, done.etag))
        return done

    async def _watch(self, joined: _Joined, say: Say, label: str) -> None:
        """Tell how far it is, now and then, until it is over."""
        wait_s, before, note = _FIRST_TELL_S, 0, ""
        while not (await asyncio.wait({joined.task}, timeout=wait_s))[0]:
            download = joined.download
            if download.note != note:
                note = download.note
                say(f"{label}: {note}")
            speed = (download.received - before) / wait_s
            whole = (
                f" of {mib(download.size)} ({download.received * 100 // download.size} %)"
                if download.size
                else ""
            )
            say(f"{label}: {mib(download.received)}{whole}, {mib(speed)}/s")
            before, wait_s = download.received, _TELL_EVERY_S

    def _make_room(self, size: int) -> None:
        """Raises DiskFull with the numbers. Blocking; called by a download's thread."""
        limit = self.settings.limit_mib * MIB
        if (over := self.store.make_room(size, limit)) > 0:
            raise DiskFull(
                f"{mib(size)} more do not fit: inputs may take {mib(limit)} on this machine ([data] limit_mib), and "
                f"those that jobs use leave {mib(over)} too little"
            )
        lacking = self._reserve.spend(self.store.folder, size)
        if lacking and (lacking := self.store.free(lacking)):
            raise DiskFull(
                f"{mib(size)} more do not fit on the disk: {mib(lacking)} are missing, with "
                f"{mib(self._reserve.reserve_bytes)} kept free ([disk] reserve_mib)"
            )

    # ---- archives

    async def _unpacked(self, sha256: str, shown: str, say: Say, limit: int) -> None:
        lock = self._unpacking.setdefault(sha256, asyncio.Lock())
        async with lock:
            if await asyncio.to_thread(self.store.find, f"trees/{sha256}") is None:
                say(f"{shown}: unpacking ...")
                await asyncio.to_thread(unpack, self.store, sha256, shown, limit, self._make_room)
        if not lock.locked():
            self._unpacking.pop(sha256, None)


@contextlib.asynccontextmanager
async def outbound_for(access: Access, settings: DataSettings) -> AsyncIterator[Outbound]:
    """Connections for one job's inputs: what it may reach goes by what its servers are."""
    outbound = Outbound(access.origins, settings.local_hosts, access.ca_file)
    try:
        yield outbound
    finally:
        await outbound.close()
