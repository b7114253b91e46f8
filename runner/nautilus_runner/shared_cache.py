"""Caches and artifacts on an S3 endpoint, which all machines share; this machine's own copies serve while it is away.

Objects have the names that gitlab-runner gives them, so both runners find each other's caches.
Source: gitlab-runner 19.x `cache/cache.go`, `cache/cachekey/cachekey.go`, `shells/abstract.go`.
"""

from __future__ import annotations

import asyncio
import posixpath
import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

from nautilus_runner.disk import mib
from nautilus_runner.errors import JobError, ServerError, UnavailableError
from nautilus_runner.files.transfer import write_all
from nautilus_runner.persistence import persistently
from nautilus_runner.s3.bucket import Bucket
from nautilus_runner.storage_settings import StoreSettings
from nautilus_runner.transport import Answer
from nautilus_runner.work import Work

_MIB = 1 << 20
_CACHE_TRIES = 3
_ARTIFACT_TRIES = 10


async def bring_caches(work: Work, keys: Sequence[str]) -> list[str]:
    """Have the first of `keys` that the endpoint has on this machine; which keys to look for here.

    Where the endpoint is away these are all of them, with a word in the log.
    """
    store = work.settings.cache
    if store.endpoint is None:
        return list(keys)
    bucket = Bucket(store.endpoint.place, work.settings.tls_ca_file)
    try:
        for key in keys:
            name = object_name(work, store, key)
            if name is not None and await persistently(partial(_bring, work, bucket, name, key), 2):
                return [key]
        return []
    except (ServerError, JobError, OSError) as error:
        work.trace.warning(f"{error}: this machine's own caches are used")
        return list(keys)
    finally:
        await bucket.close()


async def send_cache(work: Work, key: str) -> None:
    """Put the archive that was just made here onto the endpoint; a failure harms nothing, and is told."""
    store = work.settings.cache
    if store.endpoint is None:
        return
    name = object_name(work, store, key)
    path = work.machine.cache.path_of(work.cache_scope, key)
    if name is None:
        work.trace.warning(f"cache key {key!r} makes no name for an object; it stays on this machine")
        return
    size = (await asyncio.to_thread(path.stat)).st_size
    if store.max_uploaded_archive_size and size > store.max_uploaded_archive_size:
        work.trace.warning(f"cache of {mib(size)} is larger than max_uploaded_archive_size: not uploaded")
        return
    shown = f"s3://{store.endpoint.bucket_name}/{name}"
    work.trace.raw(f"Uploading cache to {shown} ...")
    bucket = Bucket(store.endpoint.place, work.settings.tls_ca_file)
    try:
        etag = await persistently(lambda: bucket.put(name, path), _CACHE_TRIES)
        await asyncio.to_thread(work.machine.cache.note_etag, work.cache_scope, key, etag)
    except (ServerError, OSError) as error:
        work.trace.warning(f"{error}: the cache stays on this machine")
    finally:
        await bucket.close()


async def send_artifact(work: Work, path: Path, filename: str) -> None:
    """A copy of an artifact for the endpoint; the server has it by now, so a failure is told and no more."""
    store = work.settings.artifacts
    if store.endpoint is None:
        return
    project, job = str(work.job.job_info.project_id), str(work.job.id)
    name = store.object_name(work.settings.short_token, "project", project, "job", job, filename)
    shown = f"s3://{store.endpoint.bucket_name}/{name}"
    bucket = Bucket(store.endpoint.place, work.settings.tls_ca_file)
    try:
        await persistently(lambda: bucket.put(name, path), _ARTIFACT_TRIES)
        work.trace.raw(f"Copied to {shown}")
    except (ServerError, OSError) as error:
        work.trace.warning(f"no copy at {shown}: {error}")
    finally:
        await bucket.close()


def object_name(work: Work, store: StoreSettings, key: str) -> str | None:
    """None for a key of which nothing is left once it is made safe."""
    if (safe := safe_key(key)) is None:
        return None
    return store.object_name(work.settings.short_token, "project", str(work.job.job_info.project_id), safe)


def safe_key(key: str) -> str | None:
    """A cache key as the end of an object's name: `..` never leads out, encoded or not. Pure."""
    for coded, plain in (("%2f", "/"), ("%2F", "/"), ("%2e", "."), ("%2E", "."), ("\\", "/")):
        key = key.replace(coded, plain)
    parts = posixpath.normpath(f"/{key}").strip("/").split("/")
    while parts and not parts[-1].rstrip():
        parts.pop()
    if parts:
        parts[-1] = parts[-1].rstrip()
    return "/".join(parts) or None


async def _bring(work: Work, bucket: Bucket, name: str, key: str) -> bool:
    """Whether the endpoint has it; then it is here, fetched unless we had that very version."""
    cache, scope = work.machine.cache, work.cache_scope
    etag = await asyncio.to_thread(cache.etag, scope, key)
    async with bucket.get(name, etag) as (answer, body):
        if answer.status == 304:
            return True
        if answer.status != 200:
            return False
        work.trace.raw(f"Downloading cache from s3://{work.settings.cache.s3.bucket_name}/{name} ...")  # type: ignore[union-attr]
        await _receive(work, answer, body, cache.path_of(scope, key))
    await asyncio.to_thread(cache.note_etag, scope, key, answer.headers.get("etag", ""))
    return True


async def _receive(work: Work, answer: Answer, body: AsyncIterator[bytes], path: Path) -> None:
    """Whole or not at all. Raises UnavailableError where it was cut, JobError where there is no room."""
    length = answer.headers.get("content-length", "")
    size = int(length) if length.isdigit() else 0
    limit = work.settings.cache_limit_mib * _MIB
    lacking = await asyncio.to_thread(work.machine.disk.spend, path.parent.parent, size)
    if size > limit or lacking:
        raise JobError(f"a cache of {mib(size)} has no room here (cache_limit_mib, [disk] reserve_mib)")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(f".{secrets.token_hex(4)}.part")
    received = 0
    try:
        with part.open("wb", buffering=0) as out:
            async for data in body:
                received += len(data)
                if received > limit:
                    raise JobError(f"a cache of more than {mib(limit)} has no room here (cache_limit_mib)")
                await asyncio.to_thread(_store, out.fileno(), data)
        if length and received != size:
            raise UnavailableError(f"S3 GET: the connection ended at {mib(received)} of {mib(size)}")
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _store(fd: int, data: bytes) -> None:
    """Raises JobError: an OSError would be taken for the network's."""
    try:
        write_all(fd, data)
    except OSError as error:
        raise JobError(f"a cache can't be written: {error.strerror or error}") from error
