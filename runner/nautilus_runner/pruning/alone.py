"""Pruning where no service runs: the data folder's lock keeps one from starting meanwhile."""

from __future__ import annotations

from pathlib import Path

from nautilus_runner.checkpoints.store import CheckpointStore
from nautilus_runner.data.store import Store
from nautilus_runner.disk import MIB, Reserve
from nautilus_runner.errors import NotRunning
from nautilus_runner.executors.factory import Factory
from nautilus_runner.journal import Journal
from nautilus_runner.pruning.janitor import Belongings, Janitor
from nautilus_runner.service import lock
from nautilus_runner.settings import load_settings
from nautilus_runner.sources.lfs_store import LfsStore
from nautilus_runner.sources.mirror import Mirrors
from nautilus_runner.system_id import ensure_system_id


def prune_alone(config: Path, *, is_all: bool, is_dry: bool) -> dict[str, object]:
    """What went. Jobs in the journal keep what they use.

    Raises ConfigurationError, NotRunning (somebody else has the folder).
    """
    settings = load_settings(config)
    folder = settings.data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = lock(folder)
    if held is None:
        raise NotRunning(f"another process uses {folder}, and it does not answer")
    with held:
        system_id = ensure_system_id(folder)
        store = Store(folder / "data")
        journal = Journal(folder / "journal")
        reserve = Reserve((folder,), settings.disk.reserve_mib * MIB)
        store.open()
        store.release_unknown(journal.has)
        own = Belongings(
            folder,
            system_id,
            store,
            LfsStore(folder / "lfs"),
            reserve,
            Factory(folder, system_id),
            journal.has,
            Mirrors(folder / "mirrors"),
            CheckpointStore(folder / "checkpoints"),
        )
        return Janitor(own).prune(settings, is_all=is_all, is_dry=is_dry).as_json()
