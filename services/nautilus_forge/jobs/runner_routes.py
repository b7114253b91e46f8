"""What a runner calls while it works: `/jobs/request`, `/jobs/:id` and its artifacts (the log: `traces.endpoint`).

Source: docs of the runner protocol; GitLab lib/api/ci/runner.rb, lib/api/ci/helpers/runner.rb.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.artifacts import upload
from nautilus_forge.artifacts.download import send_blob
from nautilus_forge.ci_half import Ci, CiHalf, the_ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.jobs.authorize import find_job, resolve_job_token
from nautilus_forge.jobs.errors import JobForbidden
from nautilus_forge.jobs.requests import request_job
from nautilus_forge.jobs.updates import update_job
from nautilus_forge.params import MAX_ID, merged, takes
from nautilus_forge.responses import Json

router = APIRouter()

_UPLOAD_PATH = re.compile(r"^/api/v4/jobs/([0-9]{1,19})/artifacts/?$")
_ARCHIVE = text(
    """
    SELECT a.path, a.filename, j.project_id FROM ci_jobs j
    LEFT JOIN ci_job_artifacts a ON a.job_id = j.id AND a.file_type = 'archive'
    WHERE j.id = :id
    """
)


@router.post("/jobs/request", openapi_extra=takes("token", "system_id", "last_update", "info"))
async def ask(request: Request, ci: Ci) -> Response:
    """201 with a job; 204; 400; 403. Held while there is none."""
    return await request_job(ci, request, await merged(request))


async def ask_directly(request: Request) -> Response:
    """The same without FastAPI's part, for a fleet that asks all the time."""
    return await ask(request, the_ci(request))


@router.put(
    "/jobs/{id}", openapi_extra=takes("token", "state", "checksum", "failure_reason", "exit_code", "output")
)
async def update(request: Request, ci: Ci) -> Response:
    """200, 400, 403 with `Job-Status`, 412: the log does not match."""
    return await update_job(ci, request, _job_id(request), await merged(request))


@router.post(
    "/jobs/{id}/artifacts",
    openapi_extra=takes("token", "file", "artifact_type", "artifact_format", "expire_in"),
)
async def upload_artifact(request: Request, ci: Ci) -> Response:
    """201; 400; 403; 413; 507. The token is checked before a byte of the body is read."""
    job_id, token = _job_id(request), job_token(request)
    limit_bytes = await upload.authorize(ci, job_id, token)
    async with upload.received(ci, request, limit_bytes) as body:
        content_type = request.headers.get("content-type", "")
        await upload.store(ci, body, content_type, request.query_params, job_id, token)
    ci.presence.jobs.add(job_id)
    return Json(201, 201)


@router.get("/jobs/{id}/artifacts", openapi_extra=takes("token"))
async def download_artifact(request: Request, ci: Ci, db: Db) -> Response:
    """The archive of a job, for the job itself or for a running job of the same project; 403; 404."""
    job_id, token = _job_id(request), job_token(request)
    found = (await db.execute(_ARCHIVE, {"id": job_id})).first()
    if found is None or not await _may_download(db, job_id, token, found.project_id):
        raise JobForbidden
    if found.path is None:
        raise NotFound
    return send_blob(ci, request, found.path, found.filename)


async def _may_download(db: AsyncSession, job_id: int, token: str, project_id: int) -> bool:
    running = await resolve_job_token(db, token)
    if running is not None:
        return running.project_id == project_id
    await find_job(db, job_id, token)
    return True


async def may_upload(ci: CiHalf, request: Request, method: str, path: str) -> bool:
    """An upload gate (`ports.UploadGate`): of a job's artifacts, by its token. Raises `JobForbidden`."""
    match = _UPLOAD_PATH.match(path)
    if match is None or method != "POST":
        return False
    query = urlsplit(request.headers.get("x-original-uri", "")).query
    token = request.headers.get("job-token") or parse_qs(query).get("token", [""])[-1]
    await upload.authorize(ci, int(match[1]), token)
    ci.following.expect()
    return True


def job_token(request: Request) -> str:
    """The job's token as runners send it; empty where none is given."""
    return request.query_params.get("token") or request.headers.get("job-token") or ""


def _job_id(request: Request) -> int:
    """Raises `BadRequest` for what is no number, `JobForbidden` (never 404) for one that no job can have."""
    given: str = request.path_params["id"]
    if not given.isascii() or not given.isdigit():
        raise BadRequest(body={"error": "id is invalid"})
    if len(given) > 19 or int(given) > MAX_ID:
        raise JobForbidden
    return int(given)
