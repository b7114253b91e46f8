"""Taking an artifact from a runner: authorised first, whole or absent after.

Source: docs of the runner protocol (POST /jobs/:id/artifacts); GitLab app/services/ci/job_artifacts/create_service.rb.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.artifacts import multipart
from nautilus_forge.artifacts.dotenv import parse_dotenv
from nautilus_forge.artifacts.errors import BrokenUpload, TooLarge
from nautilus_forge.artifacts.expiry import parse_duration_s
from nautilus_forge.artifacts.types import ARCHIVE, DOTENV, FORMATS
from nautilus_forge.ci_half import CiHalf
from nautilus_forge.jobs.authorize import confirm, find_job, require_on_runner
from nautilus_forge.spool import Body, body_of

MIB = 1 << 20

_STORE = text(
    """
    INSERT INTO ci_job_artifacts (job_id, project_id, file_type, file_format, filename, size, path, expire_at)
    SELECT id, project_id, :file_type, :file_format, :filename, :size, :path, :expire_at FROM ci_jobs
    WHERE id = :job AND token_digest = :digest AND status IN ('running', 'canceling')
    ON CONFLICT (job_id, file_type) DO UPDATE SET file_format = excluded.file_format,
        filename = excluded.filename, size = excluded.size, path = excluded.path,
        expire_at = excluded.expire_at, created_at = now()
    RETURNING id
    """
)
_SET_EXPIRY = text("UPDATE ci_jobs SET artifacts_expire_at = :at WHERE id = :job")
_STORE_VARIABLE = text(
    """
    INSERT INTO ci_job_variables (job_id, key, value, source) VALUES (:job, :key, :value, 'dotenv')
    ON CONFLICT (job_id, key) DO UPDATE SET value = excluded.value WHERE ci_job_variables.source = 'dotenv'
    """
)


@dataclass(frozen=True)
class Upload:
    """What the runner says of the file. `expire_in`: a human duration, None: the instance's default."""

    job_id: int
    token: str
    file_type: str
    file_format: str
    expire_in: str | None


async def authorize(ci: CiHalf, job_id: int, token: str) -> int:
    """Before a byte is received; how many an artifact may have. Raises `JobForbidden`."""
    async with ci.forge.database.unit_of_work() as db:
        job = await find_job(db, job_id, token)
        require_on_runner(job)
        await confirm(db, job)
        return await _max_bytes(db)


async def _max_bytes(db: AsyncSession) -> int:
    return (await current_values(db)).max_artifacts_size * MIB


@asynccontextmanager
async def received(ci: CiHalf, request: Request, limit_bytes: int) -> AsyncIterator[Body]:
    """The request's body, which may be longer than its file by a little.

    Raises `TooLarge`, `Forbidden` for a path that is not the gateway's, `BodyIsGone`.
    """
    async with body_of(request, ci.forge.settings, limit_bytes + MIB, TooLarge) as body:
        yield body


def parameters(form: multipart.Form, query: Mapping[str, str], job_id: int, token: str) -> Upload:
    """Parameters from the query, as gitlab-runner sends them, or from the form. Raises `BrokenUpload`."""

    def given(name: str) -> str | None:
        return query.get(name) or form.fields.get(name) or None

    file_type = given("artifact_type") or ARCHIVE
    if file_type not in FORMATS:
        raise BrokenUpload("artifact_type does not have a valid value")
    file_format = given("artifact_format") or "zip"
    if file_format not in ("raw", "zip", "gzip"):
        raise BrokenUpload("artifact_format does not have a valid value")
    return Upload(job_id, token, file_type, file_format, given("expire_in"))


async def store(
    ci: CiHalf, body: Body, content_type: str, query: Mapping[str, str], job_id: int, token: str
) -> None:
    """Takes the file out of the form into the store, then writes its row.

    Raises `BrokenUpload`, `TooLarge`, `BrokenDotenv`, `InsufficientStorage`, and `JobForbidden` where the job
    ended meanwhile; the file is then not kept.
    """
    boundary = multipart.boundary_of(content_type)
    form = await asyncio.to_thread(multipart.scan, body.fd, body.size, boundary)
    part = form.files.get("file")
    if part is None:
        raise BrokenUpload("file is missing")
    upload = parameters(form, query, job_id, token)
    if FORMATS[upload.file_type].value != upload.file_format:
        raise BrokenUpload("Invalid file format with specified file type")
    async with ci.forge.database.unit_of_work() as db:
        if part.length > await _max_bytes(db):
            raise TooLarge
        expire_at = await _expire_at(db, upload)
    variables = {}
    if upload.file_type == DOTENV:
        variables = parse_dotenv(os.pread(body.fd, min(part.length, 1 << 20), part.offset))
    path = await asyncio.to_thread(_take, ci, body, part, upload)
    try:
        await _write_rows(ci, upload, part, path, expire_at, variables)
    except BaseException:
        await asyncio.to_thread(ci.blobs.remove, path)
        raise


def _take(ci: CiHalf, body: Body, part: multipart.FilePart, upload: Upload) -> str:
    begun = ci.following.take(body)
    return ci.blobs.take(body.fd, part, job_id=upload.job_id, file_type=upload.file_type, begun=begun)


async def _write_rows(
    ci: CiHalf,
    upload: Upload,
    part: multipart.FilePart,
    path: str,
    expire_at: datetime | None,
    variables: Mapping[str, str],
) -> None:
    async with ci.forge.database.unit_of_work() as db:
        job = await find_job(db, upload.job_id, upload.token)
        require_on_runner(job)
        await confirm(db, job)
        values: dict[str, Any] = {
            "job": upload.job_id,
            "digest": job.token_digest,
            "file_type": upload.file_type,
            "file_format": upload.file_format,
            "filename": _safe_name(part.filename),
            "size": part.length,
            "path": path,
            "expire_at": expire_at,
        }
        if (await db.execute(_STORE, values)).first() is None:
            require_on_runner(await find_job(db, upload.job_id, upload.token))
        if upload.file_type == ARCHIVE:
            await db.execute(_SET_EXPIRY, {"job": upload.job_id, "at": expire_at})
        for key, value in variables.items():
            stored = {"job": upload.job_id, "key": key, "value": ci.cipher.encrypt(value)}
            await db.execute(_STORE_VARIABLE, stored)


async def _expire_at(db: AsyncSession, upload: Upload) -> datetime | None:
    """From the database's clock. Raises `BrokenUpload`."""
    text_ = upload.expire_in or (await current_values(db)).default_artifacts_expire_in
    if text_.strip() in ("", "0"):
        return None
    try:
        seconds = parse_duration_s(text_)
    except ValueError as error:
        raise BrokenUpload("expire_in is invalid") from error
    if seconds is None:
        return None
    now = await db.scalar(text("SELECT now()"))
    assert isinstance(now, datetime)
    return now.astimezone(UTC) + timedelta(seconds=seconds)


def _safe_name(name: str) -> str:
    """The last part of a client's file name, without what could break a header."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in last if c.isprintable() and c not in '"\\')
    return clean[:255] or "artifacts.zip"
