"""What precedes a job's scripts beside its sources: caches and other jobs' artifacts, in a folder of ours.

Source: gitlab-runner 19.x `shells/abstract.go` (restore_cache, download_artifacts).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nautilus_runner.errors import (
    ArchiveError,
    SystemFailure,
    UnavailableError,
)
from nautilus_runner.files import unpacking
from nautilus_runner.files.transfer import receive
from nautilus_runner.finishing import cache_key
from nautilus_runner.payload import Cache, Dependency, Job
from nautilus_runner.shared_cache import bring_caches
from nautilus_runner.sources.options import attempts
from nautilus_runner.trace.writer import RESET
from nautilus_runner.variables import Variables
from nautilus_runner.work import Stage

_MIB = 1 << 20
_DOWNLOAD_TRIES = 5


@dataclass(frozen=True, slots=True)
class Staging(Stage):
    """A job's project folder (`target`) before the job may write it."""

    target: Path

    @property
    def folder(self) -> Path:
        return self.work.entry.folder

    @property
    def limit_bytes(self) -> int:
        return self.settings.unpack_limit_mib * _MIB


async def restore_caches(staging: Staging) -> None:
    """Failures are told in the log and harm nothing."""
    local, scope = staging.work.machine.cache, staging.work.cache_scope
    for cache in staging.job.cache:
        if not cache.paths and not cache.untracked:
            continue
        key = cache_key(staging.job, staging.variables, cache.key)
        if "pull" not in staging.variables.expand(cache.policy):
            staging.trace.notice(f"Not downloading cache {key} due to policy")
            continue
        fallbacks = _fallback_keys(staging.variables, cache)
        staging.trace.notice(f"Checking cache for {key}...")
        keys = await bring_caches(staging.work, [key, *(k for k in fallbacks if k)])
        for _attempt in range(attempts(staging.variables, "RESTORE_CACHE_ATTEMPTS")):
            try:
                found = await asyncio.to_thread(
                    local.restore, scope, keys, staging.target, staging.limit_bytes
                )
            except ArchiveError as error:
                staging.trace.warning(f"Failed to extract cache: {error}")
                continue
            if found is None:
                staging.trace.warning("Failed to extract cache: none is there yet")
            else:
                staging.trace.notice("Successfully extracted cache" + (f" {found}" if found != key else ""))
            break


def _fallback_keys(variables: Variables, cache: Cache) -> list[str]:
    """The cache's own, then the one for all of a job's; caches of protected branches are nobody's fallback."""
    keys = [variables.expand(key) for key in cache.fallback_keys]
    common = variables.get("CACHE_FALLBACK_KEY")
    return [*keys, common] if common and not common.endswith("-protected") else keys


def downloads(job: Job) -> list[Dependency]:
    return [d for d in job.dependencies if d.artifacts_file is not None and d.artifacts_file.filename]


async def download_artifacts(staging: Staging) -> None:
    """Raises SystemFailure where the artifacts of a job that this one needs can't be had or unpacked."""
    for dependency in downloads(staging.job):
        staging.trace.notice(f"Downloading artifacts for {dependency.name} ({dependency.id})...")
        path = staging.folder / f"dependency-{dependency.id}"
        try:
            status = await _download(staging, dependency, path)
            host = urlsplit(staging.settings.url).hostname
            staging.trace.raw(
                f"Downloading artifacts from coordinator... ok{RESET}  host{RESET}={host} id{RESET}={dependency.id} "
                f"responseStatus{RESET}={status} OK"
            )
            with path.open("rb") as archive:
                await asyncio.to_thread(unpacking.unpack_zip, archive, staging.target, staging.limit_bytes)
        except ArchiveError as error:
            raise SystemFailure(f"the artifacts of {dependency.name} can't be unpacked: {error}") from error
        finally:
            path.unlink(missing_ok=True)


async def _download(staging: Staging, dependency: Dependency, path: Path) -> int:
    problem = ""
    for attempt in range(attempts(staging.variables, "ARTIFACT_DOWNLOAD_ATTEMPTS", _DOWNLOAD_TRIES)):
        if attempt:
            await asyncio.sleep(min(2.0**attempt / 2, 20))
        try:
            async with staging.work.client.download_artifacts(dependency.id, dependency.token) as (
                answer,
                body,
            ):
                if answer.status == 200:
                    await receive(body, path)
                    return answer.status
                problem = f"the server answered {answer.status}"
                if answer.status in (401, 403, 404):
                    break
        except UnavailableError as error:
            problem = str(error)
        staging.trace.warning(f"Downloading artifacts from coordinator... {problem}")
    raise SystemFailure(
        f"the artifacts of {dependency.name} ({dependency.id}) can't be downloaded: {problem}"
    )
