"""Joins the CI half to a forge: its answers to the other half's questions, its background work, its routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.ci_half import CiHalf
from nautilus_forge.db.models import MergeRequest, Project, User
from nautilus_forge.environments import stopping
from nautilus_forge.forge import Forge
from nautilus_forge.jobs import runner_routes as running
from nautilus_forge.jobs.authorize import resolve_job_token
from nautilus_forge.jobs.limits import CiLimits
from nautilus_forge.jobs.lookout import Lookout
from nautilus_forge.jobs.upkeep import Upkeep
from nautilus_forge.jobs.wakeups import HooksDue, JobChanged, Listener, MergeDue, News, Queued, RunnerChanged
from nautilus_forge.pipelines import creation, merge_requests, service
from nautilus_forge.ports import RefChange
from nautilus_forge.routing import Endpoints
from nautilus_forge.runners.service import ensure_registration_token
from nautilus_forge.schedules.clock import Clock

log = logging.getLogger(__name__)


def busy_endpoints(prefix: str) -> Endpoints:
    """What is to be answered ahead of the framework: what a fleet of idle runners asks all the time."""
    return {("POST", f"{prefix}/jobs/request"): running.ask_directly}


def join(forge: Forge, limits: CiLimits | None = None) -> CiHalf:
    """Makes the CI half and plugs it into the forge; nothing is started before the forge is ready."""
    ci = CiHalf.of(forge, limits)
    forge.ci = ci

    async def create_for_push(
        db: AsyncSession,
        forge: Forge,
        *,
        project: Project,
        user: User | None,
        change: RefChange,
        push_options: Sequence[str] = (),
    ) -> int | None:
        return await creation.create_for_push(
            forge.ci, db, project=project, user=user, change=change, push_options=push_options
        )

    async def start(_: Forge) -> None:
        await _start(ci)

    async def last_pipeline(db: AsyncSession, project_id: int, sha: str) -> dict[str, Any] | None:
        return await service.last_pipeline(ci, db, project_id, sha)

    async def create_for_merge_request(
        db: AsyncSession, forge: Forge, *, merge_request: MergeRequest, user: User, is_asked: bool
    ) -> int | None:
        return await merge_requests.create_for_merge_request(
            forge.ci, db, merge_request=merge_request, user=user, is_asked=is_asked
        )

    async def show_pipelines(
        db: AsyncSession, pipeline_ids: Sequence[int], *, detailed: bool = False
    ) -> dict[int, dict[str, Any]]:
        return await merge_requests.show_pipelines(ci, db, pipeline_ids, detailed=detailed)

    forge.create_for_push = create_for_push
    if stopping.follow not in forge.on_ref_change:
        forge.on_ref_change.append(stopping.follow)
    forge.create_for_merge_request = create_for_merge_request
    forge.show_pipelines = show_pipelines
    forge.last_pipeline = last_pipeline
    forge.resolve_job_token = resolve_job_token
    forge.upload_gates.append(partial(running.may_upload, ci))
    forge.on_ready.insert(0, start)
    return ci


async def _start(ci: CiHalf) -> None:
    """A start-up step; run again when a later one failed, then it starts nothing twice."""
    async with ci.forge.database.unit_of_work() as db:
        await ensure_registration_token(db, ci.forge.settings)
    if ci.is_started:
        return
    ci.is_started = True
    listener = Listener(ci.forge.settings, lambda news: _hear(ci, news), lambda: _miss(ci))
    ci.forge.spawn(listener.run(), "listen for news")
    ci.forge.spawn(Upkeep(ci, listener).run(), "upkeep of jobs")
    ci.forge.spawn(Lookout(ci).run(), "look for waiting jobs")
    ci.forge.spawn(Clock(ci, lambda: listener.has_upkeep_lock).run(), "make scheduled pipelines")
    ci.forge.spawn(_note_presence(ci), "note the contact of runners")
    ci.forge.spawn(_end_held_requests(ci), "end held requests")


def _hear(ci: CiHalf, news: News) -> None:
    match news:
        case Queued():
            ci.board.offer(news)
        case JobChanged():
            ci.live.forget(news.job_id)
        case RunnerChanged():
            ci.runners.forget(news.runner_id)
            ci.board.wake_runner(news.runner_id)
        case HooksDue():
            ci.forge.webhooks.due.set()
        case MergeDue():
            work = ci.forge.merge_when_ready(news.merge_request_id)
            ci.forge.spawn(work, f"merge request {news.merge_request_id} may be due")


def _miss(ci: CiHalf) -> None:
    """The connection for news is new: what happened before was perhaps not heard."""
    ci.live.forget_all()
    ci.runners.forget_all()
    ci.board.news_missed()
    ci.forge.webhooks.due.set()
    ci.look.set()


async def _note_presence(ci: CiHalf) -> None:
    while True:
        await asyncio.sleep(ci.limits.presence_every_s)
        try:
            async with ci.forge.database.unit_of_work() as db:
                await ci.presence.flush(db)
        except Exception as error:
            log.warning("the contact of runners could not be noted: %s", error)


async def _end_held_requests(ci: CiHalf) -> None:
    await ci.forge.stopping.wait()
    ci.board.wake_all()
    ci.live.forget_all()
    ci.traces.close_all()
