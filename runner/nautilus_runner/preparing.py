"""Before a job's first script: executor and sources at the same time, then caches and other jobs' artifacts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nautilus_runner import __version__, fetching, outputs, staging
from nautilus_runner.checkpoints import keeping
from nautilus_runner.executors.base import Executor, Script
from nautilus_runner.gpus.wish import wish_of
from nautilus_runner.work import Work

if TYPE_CHECKING:
    from nautilus_runner.data.placing import Placement

T = TypeVar("T")


async def prepare(work: Work, executor: Executor, first: Callable[[], Script | None]) -> None:
    """Everything is in place, and the job's, when this returns. Raises JobError.

    `first` gives the script to send ahead, once the job's GPUs are known; nothing of the job runs, and no
    repository is asked for, before the server has accepted our claim.
    """
    _greet(work)
    staged = staging.Staging(work, await asyncio.to_thread(executor.stage))
    work.context.sources = fetch = asyncio.create_task(_fetch(staged))
    looking = asyncio.create_task(keeping.look(work))
    guard, trace = work.control.guard, work.trace
    try:
        placement = await _inputs(work)
        with trace.section("prepare_executor", f'Preparing the "{executor.name}" executor'):
            await _take_room(work)
            await _take_gpus(work)
            await _take_slot(work)
            work.context.first = first()
            await guard(executor.prepare())
        with trace.section("prepare_script", "Preparing environment"):
            trace.raw(f"Running on {socket.gethostname()}...")
        with trace.section("get_sources", "Getting source from Git repository"):
            fetching.describe_sources(staged)
            fetching.describe_checkout(staged, await guard(_wait(fetch)))
            newest = await guard(_wait(looking))
    finally:
        for task in (fetch, looking):
            task.cancel()
        await asyncio.gather(fetch, looking, return_exceptions=True)
    if any(cache.paths or cache.untracked for cache in work.job.cache):
        with trace.section("restore_cache", "Restoring cache"):
            await guard(staging.restore_caches(staged))
    if staging.downloads(work.job):
        with trace.section("download_artifacts", "Downloading artifacts"):
            await guard(staging.download_artifacts(staged))
    await guard(keeping.restore(work, staged.target, newest))
    if placement is not None:
        await _place(work, placement, staged)
    if outputs.is_wanted(work):
        await guard(asyncio.to_thread(outputs.remember, work, staged.target))
    await guard(executor.adopt())
    await guard(work.context.accepted.wait())


def _greet(work: Work) -> None:
    settings = work.settings
    if work.context.is_again:
        work.trace.warning("The runner was restarted; the job is prepared again.")
    work.trace.line(f"Running with nautilus-runner {__version__}")
    work.trace.line(f"  on {settings.label} {settings.short_token}, system ID: {work.machine.system_id}")


async def _fetch(staged: staging.Staging) -> fetching.Fetched:
    """Only once the server has accepted our claim: until then the job's token opens no repository."""
    await staged.work.context.accepted.wait()
    return await fetching.fetch_sources(staged)


async def _inputs(work: Work) -> Placement | None:
    """What the job wishes for in NAUTILUS_INPUTS, before it holds room or GPUs; None where it wishes for nothing."""
    if not work.variables.get("NAUTILUS_INPUTS"):
        return None
    from nautilus_runner.data import placing

    if not (wanted := placing.wishes_of(work)):
        return None
    with work.trace.section("fetch_inputs", "Fetching inputs"):
        await work.control.guard(work.context.accepted.wait())
        return await work.control.guard(placing.fetch_inputs(work, wanted))


async def _place(work: Work, placement: Placement, staged: staging.Staging) -> None:
    from nautilus_runner.data import placing

    await asyncio.to_thread(placing.place, work, placement, staged.target)


async def _take_room(work: Work) -> None:
    """Wait until this machine has what the job may use. Raises JobMisconfigured where it never has."""
    limits, entry, capacity = work.context.limits, work.entry, work.machine.capacity
    await work.control.guard(capacity.take(entry.key, limits, lambda why: _wait_for(work, why)))
    if saved := limits.as_json():
        await entry.record(is_durable=False, limits=saved)


def _wait_for(work: Work, why: str) -> None:
    """Meanwhile its slot is others'."""
    work.context.waits_for = why
    work.trace.raw(f"{why[:1].upper()}{why[1:]}." if why else "There is room now.")
    if why:
        work.machine.slots.park(work.slot)


async def _take_slot(work: Work) -> None:
    """Be at work again, where the job had to wait: it comes before jobs that are asked for."""
    resume = work.machine.slots.resume
    await work.control.guard(resume(work.slot, lambda why: _wait_for(work, why)))
    work.context.waits_for = ""


async def _take_gpus(work: Work) -> None:
    wish = wish_of(work.variables.environment())
    if not wish.count:
        return

    def say(why: str) -> None:
        work.context.waits_for = why
        work.trace.raw(why)
        work.machine.slots.park(work.slot)

    work.context.gpus = given = await work.control.guard(work.machine.gpus.take(wish, say))
    work.context.waits_for = ""
    work.context.lock_files = work.machine.gpus.lock_files(given)
    await work.entry.record(gpus=given.uuids, gpu_share_mib=given.share_mib)
    share = f" ({given.share_mib} MiB of it)" if given.share_mib else ""
    work.trace.raw(f"GPUs of this job: {', '.join(given.uuids)}{share}")


async def _wait(task: asyncio.Task[T]) -> T:
    return await asyncio.shield(task)
