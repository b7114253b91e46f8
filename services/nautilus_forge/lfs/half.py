"""Git LFS's part of a forge, made once with it (`Forge.lfs`), and the collecting of what nobody has any more."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nautilus_forge.following import Follower
from nautilus_forge.lfs.hashing import Hashing
from nautilus_forge.lfs.store import LfsStore

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge

log = logging.getLogger(__name__)

_RETRY_S = 60.0


@dataclass
class Lfs:
    """`following`: hashes uploads ahead. `collect`: set to have objects without a project deleted now.
    `under_way`: paths that uploads of this process are just writing; every other loose file is an orphan.
    """

    store: LfsStore
    following: Follower[Hashing]
    collect: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: set[str] = field(default_factory=set)
    is_started: bool = False


def join(forge: Forge) -> None:
    """Gives the forge its LFS, and the way in for uploads."""
    from nautilus_forge.lfs.storage_routes import may_upload

    folder = forge.settings.spooled("lfs")
    forge.lfs = Lfs(LfsStore(forge.settings.data_dir), Follower(folder, lambda _: Hashing()))
    forge.upload_gates.append(may_upload)
    forge.on_ready.append(_start)


async def _start(forge: Forge) -> None:
    if not forge.lfs.is_started:
        forge.lfs.is_started = True
        forge.lfs.collect.set()
        forge.spawn(_collect(forge), "collect LFS objects")


async def _collect(forge: Forge) -> None:
    """Until cancelled: at the start, and whenever a project was deleted."""
    from nautilus_forge.lfs.collection import collect

    while True:
        await forge.lfs.collect.wait()
        forge.lfs.collect.clear()
        try:
            await collect(forge)
        except Exception:
            log.exception("collecting LFS objects failed; trying again")
            await asyncio.sleep(_RETRY_S)
            forge.lfs.collect.set()
