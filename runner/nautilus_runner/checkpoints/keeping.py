"""The two moments of a checkpoint: an attempt that ends early leaves it, the next one finds it.

A job writes to $NAUTILUS_CHECKPOINT_DIR (in its project folder; it makes the folder where it is missing). When the
attempt ends in any way but success, what is there is kept: on this machine, and for a run of Nautilus at Nautilus too,
unless the script itself said that it failed. After success it is removed.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from nautilus_runner.checkpoints.remote import RemoteCheckpoints
from nautilus_runner.checkpoints.store import FOLDER
from nautilus_runner.errors import (
    ArchiveError,
    ConfigurationError,
    JobCanceled,
    JobError,
    JobMisconfigured,
    ScriptFailed,
    ServerError,
)
from nautilus_runner.files import unpacking
from nautilus_runner.files.tree import Tree
from nautilus_runner.live.link import nautilus_url
from nautilus_runner.transport import describe
from nautilus_runner.work import Work

log = logging.getLogger(__name__)

_MIB = 1 << 20
_SETTLED = (ScriptFailed, JobCanceled, JobMisconfigured)
"""Ends after which no server tries again by itself for long, as it does after those that are a machine's fault."""


def scope_of(work: Work) -> str:
    """Whose checkpoint: the same for all attempts of a job; "" where a job has no name that lasts.

    Protected refs have their own, as GitLab's caches.
    """
    variables, info = work.variables, work.job.job_info
    series = variables.get("NAUTILUS_CHECKPOINT_KEY") or variables.get("MLFLOW_RUN_ID")
    series = series or variables.get("CI_PIPELINE_ID")
    if not series:
        return ""
    return "\n".join(
        (work.settings.url, str(info.project_id), variables.get("CI_COMMIT_REF_PROTECTED"), series, info.name)
    )


async def look(work: Work) -> int:
    """The job whose checkpoint is the newest at Nautilus; 0 where there is none, or no telling."""
    await work.context.accepted.wait()
    if not _is_kept(work) or (remote := _remote(work)) is None:
        return 0
    try:
        async with remote:
            found = [number for number in await remote.job_ids() if number < work.job.id]
    except ServerError as error:
        log.info("job %s: no checkpoints at Nautilus: %s", work.job.id, error)
        return 0
    if found:
        await work.entry.record(is_durable=False, had_checkpoint=True)
    return found[-1] if found else 0


async def restore(work: Work, target: Path, there: int) -> None:
    """Put the newest checkpoint of earlier attempts into the folder that becomes the job's. Failures are told in
    the log: the job begins anew then. `there`: what `look` found."""
    if not _is_kept(work):
        return
    here = await asyncio.to_thread(work.machine.checkpoints.claim, scope_of(work), work.entry.key)
    number, path = here or (0, Path())
    fetched = work.entry.folder / "checkpoint.zip"
    limit_bytes = work.settings.unpack_limit_mib * _MIB
    try:
        if there > number and (remote := _remote(work)) is not None:
            number, path = there, fetched
            async with remote:
                await remote.download(there, fetched)
        if number == 0:
            return
        with path.open("rb") as archive:
            count = await asyncio.to_thread(unpacking.unpack_zip, archive, target, limit_bytes)
        work.trace.notice(f"The checkpoint of job {number} is in {FOLDER} ({count} files)")
    except (ArchiveError, OSError, ServerError) as error:
        work.trace.warning(f"The checkpoint of an earlier attempt can't be restored: {describe(error)}")
    finally:
        fetched.unlink(missing_ok=True)


async def keep(work: Work, tree: Tree, error: JobError | None) -> None:
    """Keep what the attempt left, or forget it all after success. Failures are told in the log and harm nothing."""
    if not _is_kept(work):
        return
    scope = scope_of(work)
    store = work.machine.checkpoints
    try:
        if error is None:
            await _forget(work, scope)
            return
        limit_mib = work.settings.checkpoint_limit_mib
        is_settled = type(error) in _SETTLED
        path = await asyncio.to_thread(store.save, scope, work.job.id, tree, limit_mib, is_settled=is_settled)
        if path is None:
            return
        work.trace.notice(f"The checkpoint is kept for the next attempt ({path.stat().st_size} bytes)")
        if type(error) is not ScriptFailed and (remote := _remote(work)) is not None:
            async with remote:
                await remote.upload(work.job.id, path)
            work.trace.notice("The checkpoint is at Nautilus, for any machine")
    except (ArchiveError, OSError, ServerError, ConfigurationError) as failure:
        work.trace.warning(f"The checkpoint is not kept everywhere: {describe(failure)}")


async def _forget(work: Work, scope: str) -> None:
    if await asyncio.to_thread(work.machine.checkpoints.newest, scope) is not None:
        await asyncio.to_thread(work.machine.checkpoints.forget, scope)
    if work.entry.state.get("had_checkpoint") and (remote := _remote(work)) is not None:
        async with remote:
            await remote.forget()


def _is_kept(work: Work) -> bool:
    return work.settings.checkpoint_limit_mib > 0 and scope_of(work) != ""


def _remote(work: Work) -> RemoteCheckpoints | None:
    """Nautilus, where the job is a run of it."""
    variables = work.variables
    run_id, token = variables.get("MLFLOW_RUN_ID"), variables.get("MLFLOW_TRACKING_TOKEN")
    url = nautilus_url(variables, work.settings)
    if not (url and run_id and token):
        return None
    return RemoteCheckpoints(url, work.settings.tls_ca_file, token, run_id, work.job.job_info.name)
