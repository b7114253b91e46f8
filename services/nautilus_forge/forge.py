"""The parts of one running forge, made once by the composition root and handed down (`request.app.state.forge`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nautilus_forge.db.engine import Database
from nautilus_forge.git.maintenance import Maintenance
from nautilus_forge.git.store import RepositoryStore
from nautilus_forge.ports import (
    CommitCommented,
    CreateForMergeRequest,
    CreateForPush,
    FollowRefChange,
    LastPipeline,
    MergeRequestCommented,
    MergeRequestHappened,
    ResolveJobToken,
    ShowPipelines,
    UploadGate,
    no_job_tokens,
    no_last_pipeline,
    no_merge_request_pipelines,
    no_merges,
    no_pipelines,
    no_pipelines_shown,
)
from nautilus_forge.settings import Settings

if TYPE_CHECKING:
    from nautilus_forge.basic_auth import BasicGate
    from nautilus_forge.ci_half import CiHalf
    from nautilus_forge.imports.worker import Imports
    from nautilus_forge.lfs.half import Lfs
    from nautilus_forge.registry.half import ContainerRegistry
    from nautilus_forge.webhooks.worker import WebhookWorker

log = logging.getLogger(__name__)

Startup = Callable[["Forge"], Awaitable[None]]


@dataclass
class Forge:
    """`on_ready`: run in order, once, when the database stands at its schema's head; the forge answers only
    after all of them have returned. `on_project_deleted`: run after a project's rows are gone (project id).
    `upload_gates`: one of them lets a large upload begin, or it does not.
    `stopping` is set when the process has been asked to end: held requests must answer within a second.
    `not_ready`: why requests get 503, None once everything is there.
    """

    settings: Settings
    database: Database
    repositories: RepositoryStore
    secret_key: bytes
    create_for_push: CreateForPush = no_pipelines
    resolve_job_token: ResolveJobToken = no_job_tokens
    last_pipeline: LastPipeline = no_last_pipeline
    create_for_merge_request: CreateForMergeRequest = no_merge_request_pipelines
    show_pipelines: ShowPipelines = no_pipelines_shown
    on_ref_change: list[FollowRefChange] = field(default_factory=list)
    on_merge_request: list[MergeRequestHappened] = field(default_factory=list)
    on_merge_request_note: list[MergeRequestCommented] = field(default_factory=list)
    on_commit_note: list[CommitCommented] = field(default_factory=list)
    on_sweep: list[Startup] = field(default_factory=list)
    """What looks every half minute for news that was missed."""
    merge_when_ready: Callable[[int], Coroutine[Any, Any, None]] = no_merges
    """The pipeline that a merge request waits for is over (merge request's id)."""
    upload_gates: list[UploadGate] = field(default_factory=list)
    on_ready: list[Startup] = field(default_factory=list)
    on_project_deleted: list[Callable[[int], Awaitable[None]]] = field(default_factory=list)
    maintenance: Maintenance = field(default_factory=Maintenance)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    not_ready: str | None = "starting"
    ci: CiHalf = field(init=False)
    """The CI half; `ci_join.join` sets it."""
    basic: BasicGate = field(init=False)
    """Who presents a name and a password, to git and to the registry; `app.build_forge` sets it."""
    lfs: Lfs = field(init=False)
    """Git LFS; `lfs.half.join` sets it."""
    imports: Imports = field(init=False)
    """Repositories that are being filled from elsewhere; `app.build_forge` sets it."""
    webhooks: WebhookWorker = field(init=False)
    """What calls webhooks; `webhooks.half.join` sets it."""
    registry: ContainerRegistry | None = None
    """The container registry; `registry.half.join` sets it where there is one."""
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the requests; it is cancelled when the forge ends, and a failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel the background tasks and close the pool."""
        self.stopping.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.database.close()
