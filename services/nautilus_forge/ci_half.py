"""The parts of the forge's CI half, made once with the forge (`Forge.ci`) and handed to its routes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import Request

from nautilus_forge.artifacts.blobs import BlobStore
from nautilus_forge.files import Copy
from nautilus_forge.following import Follower
from nautilus_forge.jobs.asks import Asks
from nautilus_forge.jobs.board import JobBoard
from nautilus_forge.jobs.commits import CommitCache
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.runners.identity import KnownRunners
from nautilus_forge.runners.presence import Presence
from nautilus_forge.traces.live import LiveJobs
from nautilus_forge.traces.store import TraceStore
from nautilus_forge.variables.cipher import Cipher

if TYPE_CHECKING:
    from nautilus_forge.forge import Forge


@dataclass
class CiHalf:
    """`following`: copies artifacts ahead. `asks`: runners that ask for a job at this moment.
    `look`: set to have the queue looked at now.
    `schedules_changed`: set to have the clock of the schedules look at them now.
    """

    forge: Forge
    limits: CiLimits
    cipher: Cipher
    traces: TraceStore
    blobs: BlobStore
    following: Follower[Copy]
    live: LiveJobs = field(default_factory=LiveJobs)
    board: JobBoard = field(default_factory=JobBoard)
    presence: Presence = field(default_factory=Presence)
    runners: KnownRunners = field(default_factory=KnownRunners)
    commits: CommitCache = field(default_factory=CommitCache)
    asks: Asks = field(default_factory=Asks)
    look: asyncio.Event = field(default_factory=asyncio.Event)
    schedules_changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_started: bool = False

    @classmethod
    def of(cls, forge: Forge, limits: CiLimits | None = None) -> CiHalf:
        data_dir = forge.settings.data_dir
        blobs = BlobStore(data_dir)
        return cls(
            forge=forge,
            limits=limits or CiLimits(),
            cipher=Cipher(forge.secret_key),
            traces=TraceStore(data_dir),
            blobs=blobs,
            following=Follower(forge.settings.spooled("artifacts"), blobs.begin),
        )


def the_ci(request: Request) -> CiHalf:
    ci: CiHalf = request.app.state.forge.ci
    return ci


Ci = Annotated[CiHalf, Depends(the_ci)]
