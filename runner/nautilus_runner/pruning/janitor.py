"""Looks after the disk while the service runs, and for `nautilus-runner prune`: whatever goes wrong stops nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus_runner.cache import remove_archive
from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.data.store import Store
from nautilus_runner.disk import MIB, Reserve, mib
from nautilus_runner.errors import RunnerError
from nautilus_runner.executors.factory import Factory, end_processes
from nautilus_runner.pruning.plan import Policy, Removal, choose
from nautilus_runner.pruning.shelves import DataShelf, FileShelf, Shelf, WorkTreeShelf
from nautilus_runner.pruning.source_shelves import CheckpointShelf, MirrorShelf
from nautilus_runner.settings import Settings
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors

log = logging.getLogger(__name__)

_SHORT_EVERY_S = 5.0  # between two attempts while the disk is below its reserve


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this runner has; `is_known` says whether the journal knows a job."""

    data_dir: Path
    system_id: str
    data: Store
    lfs: LfsStore
    disk: Reserve
    executors: Factory
    is_known: Callable[[str], bool]
    mirrors: Mirrors
    checkpoints: CheckpointStore


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done`: what went, or would go; `failed`: what should have gone and stayed."""

    done: tuple[Removal, ...]
    failed: tuple[Removal, ...] = ()

    @property
    def size(self) -> int:
        return sum(removal.item.size for removal in self.done)

    def as_json(self) -> dict[str, object]:
        return {
            "removals": [removal.as_json() for removal in self.done],
            "kept": [removal.as_json() for removal in self.failed],
            "total_bytes": self.size,
        }


class Janitor:
    """One for the machine; one pruning at a time."""

    def __init__(self, belongings: Belongings) -> None:
        self._own = belongings
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: Callable[[], Settings]) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._work(settings))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _work(self, settings: Callable[[], Settings]) -> None:
        while True:
            every_s = settings().disk.prune_every_s
            waited_s = 0.0
            while waited_s < every_s and not (self._own.disk.is_short and waited_s >= _SHORT_EVERY_S):
                await asyncio.sleep(min(1.0, every_s))
                waited_s += min(1.0, every_s)
            try:
                await asyncio.to_thread(self.prune, settings())
            except Exception:
                log.exception("pruning: an error of ours; tried again")

    def prune(self, settings: Settings, *, is_all: bool = False, is_dry: bool = False) -> Outcome:
        """Remove what `choose` says; in a dry run only say what. Blocking; never raises for what can't be removed."""
        with self._lock:
            missing, _ = self._own.disk.missing()
            shelves = self._shelves(settings, is_measured=missing > 0 or is_all)
            kept = [(shelf, item) for shelf in shelves for item in shelf.items()]
            missing, _ = self._own.disk.missing()
            limits = _limits(settings)
            policy = Policy(time.time(), limits, missing, is_all)
            chosen = choose((item for _, item in kept), policy)
            if is_dry:
                return Outcome(tuple(chosen))
            places = {(item.kind, item.name): shelf for shelf, item in kept}
            outcome = _carried_out(chosen, places)
            self._own.disk.missing()
        for removal in outcome.done:
            item = removal.item
            log.info(
                "pruned: %s %s, %s (%s)", item.kind, item.about or item.name, mib(item.size), removal.why
            )
        return outcome

    def _shelves(self, settings: Settings, *, is_measured: bool) -> Iterator[Shelf]:
        own = self._own
        own.data.open()
        yield DataShelf(own.data)
        yield FileShelf("cache", own.data_dir / "cache", ".zip", remove=remove_archive)
        yield FileShelf("lfs", own.data_dir / "lfs", is_used=own.lfs.is_used, remove=own.lfs.remove)
        yield MirrorShelf(own.mirrors, is_measured=is_measured)
        yield CheckpointShelf(own.checkpoints, own.is_known)
        for folder in self._work_folders(settings):
            yield WorkTreeShelf(folder, own.is_known, end_processes)
        for host in {runner.docker.host for runner in settings.runners if runner.executor == "docker"}:
            yield from self._docker_shelves(host)

    def _work_folders(self, settings: Settings) -> set[Path]:
        """Where work trees lie; their disks are looked after from now on."""
        own = self._own
        try:
            folders = own.executors.work_folders(settings.runners)
        except RunnerError as error:
            log.warning("pruning: work trees are left out: %s", error)
            return set()
        own.disk.folders = (own.data_dir, *sorted(folders))
        return folders

    def _docker_shelves(self, host: str) -> Iterator[Shelf]:
        from nautilus_runner.pruning import docker_shelves as shelves

        own = self._own
        try:
            api, _ = own.executors.daemon(host)
            is_local = Path(str(api.info().get("DockerRootDir") or "/nowhere")).is_dir()
        except (RunnerError, OSError) as error:
            log.warning("pruning: Docker is left out: %s", error)
            return
        except Exception as error:  # whatever the daemon's client raises
            log.warning("pruning: Docker is left out: %s", error)
            return
        yield shelves.LeftoverShelf(api, own.system_id, own.is_known)
        yield shelves.VolumeShelf(api, own.system_id, shelves.marks_of(own.data.folder), is_local)
        yield shelves.ImageShelf(api, own.executors.images, is_local)
        yield shelves.BuiltImageShelf(api, own.system_id, own.data_dir / "built-images", is_local)


def _limits(settings: Settings) -> dict[str, int]:
    """Bytes by kind; where registrations differ, the one that allows most counts."""
    limits = {"data": settings.data.limit_mib * MIB, "volume": settings.data.limit_mib * MIB}
    if settings.runners:
        limits["cache"] = max(runner.cache_limit_mib for runner in settings.runners) * MIB
        limits["lfs"] = max(runner.lfs_limit_mib for runner in settings.runners) * MIB
    if settings.disk.images_limit_mib:
        limits["image"] = settings.disk.images_limit_mib * MIB
    return limits


def _carried_out(chosen: list[Removal], places: dict[tuple[str, str], Shelf]) -> Outcome:
    done: list[Removal] = []
    failed: list[Removal] = []
    for removal in chosen:
        item = removal.item
        try:
            is_gone = places[item.kind, item.name].remove(item)
        except Exception as error:
            log.warning("pruning: %s %s stays: %s", item.kind, item.name, error)
            is_gone = False
        (done if is_gone else failed).append(removal)
    return Outcome(tuple(done), tuple(failed))
