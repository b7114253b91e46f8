"""Artifacts of a project's jobs.

Source: doc/api/job_artifacts.md, GitLab lib/api/ci/job_artifacts.rb.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.artifacts.archive import is_valid_path
from nautilus_forge.artifacts.download import send_blob, send_entry
from nautilus_forge.artifacts.types import ARCHIVE
from nautilus_forge.ci_half import Ci
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.models import Job, JobArtifact, Pipeline
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.jobs import service
from nautilus_forge.jobs.entities import show_job
from nautilus_forge.jobs.permission import require_artifacts, require_update
from nautilus_forge.params import ParamModel, Params, path_id, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Readable = Annotated[ProjectAccess, Depends(project_with(Ability.READ_BUILD, job_token=True))]
Updatable = Annotated[ProjectAccess, Depends(project_with(Ability.UPDATE_BUILD))]
Admin = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROJECT))]
JobId = Annotated[int, Depends(path_id("job_id"))]
RefName = Annotated[str, Depends(path_text("ref_name"))]
ArtifactPath = Annotated[str, Depends(path_text("artifact_path"))]

_EXPIRE_ALL = text(
    """
    UPDATE ci_job_artifacts SET expire_at = now() WHERE project_id = :project AND file_type <> 'trace'
      AND (expire_at IS NULL OR expire_at > now())
    """
)


class ByName(ParamModel):
    job: str


@router.get("/projects/{id}/jobs/artifacts/{ref_name:path}/download")
async def download_by_ref(
    request: Request,
    at: Readable,
    db: Db,
    ci: Ci,
    ref_name: RefName,
    params: Annotated[ByName, Params(ByName)],
) -> Response:
    """The archive of the latest job of that name in the ref's latest successful pipeline."""
    job = await _latest_successful(db, at.project.id, ref_name, params.job)
    require_artifacts(at, job)
    archive = await _archive(db, job.id)
    return send_blob(ci, request, archive.path, archive.filename)


@router.get("/projects/{id}/jobs/artifacts/{ref_name:path}/raw/{artifact_path:path}")
async def download_file_by_ref(
    at: Readable,
    db: Db,
    ci: Ci,
    ref_name: RefName,
    artifact_path: ArtifactPath,
    params: Annotated[ByName, Params(ByName)],
) -> Response:
    job = await _latest_successful(db, at.project.id, ref_name, params.job)
    require_artifacts(at, job)
    if not is_valid_path(artifact_path):
        raise BadRequest
    archive = await _archive(db, job.id)
    return await send_entry(ci.blobs.path(archive.path), artifact_path)


@router.get("/projects/{id}/jobs/{job_id}/artifacts")
async def download(request: Request, at: Readable, db: Db, ci: Ci, job_id: JobId) -> Response:
    job = await service.find_job(db, at.project.id, job_id)
    require_artifacts(at, job)
    archive = await _archive(db, job.id)
    return send_blob(ci, request, archive.path, archive.filename)


@router.get("/projects/{id}/jobs/{job_id}/artifacts/{artifact_path:path}")
async def download_file(at: Readable, db: Db, ci: Ci, job_id: JobId, artifact_path: ArtifactPath) -> Response:
    """One file out of the archive; 400 for a path that leads outside, 404."""
    job = await service.find_job(db, at.project.id, job_id)
    require_artifacts(at, job)
    if not is_valid_path(artifact_path):
        raise BadRequest
    archive = await _archive(db, job.id)
    return await send_entry(ci.blobs.path(archive.path), artifact_path)


@router.post("/projects/{id}/jobs/{job_id}/artifacts/keep")
async def keep(at: Updatable, db: Db, ci: Ci, job_id: JobId) -> Response:
    job = await service.find_job(db, at.project.id, job_id)
    await require_update(db, at, job)
    await service.keep_artifacts(db, job)
    return Json(await show_job(ci, db, await service.find_job(db, at.project.id, job_id)))


@router.delete("/projects/{id}/jobs/{job_id}/artifacts")
async def delete(at: Admin, db: Db, job_id: JobId) -> Response:
    await service.delete_artifacts(db, await service.find_job(db, at.project.id, job_id))
    return no_content()


@router.delete("/projects/{id}/artifacts")
async def delete_all(at: Admin, db: Db, ci: Ci) -> Response:
    """202: all artifacts of the project expire now."""
    await db.execute(_EXPIRE_ALL, {"project": at.project.id})
    return Json({"message": "202 Accepted"}, 202)


async def _archive(db: AsyncSession, job_id: int) -> JobArtifact:
    """Raises `NotFound` where the job has none (any more: the upkeep deletes expired ones)."""
    archive = await db.scalar(
        select(JobArtifact).where(JobArtifact.job_id == job_id, JobArtifact.file_type == ARCHIVE)
    )
    if archive is None:
        raise NotFound
    return archive


async def _latest_successful(db: AsyncSession, project_id: int, ref: str, name: str) -> Job:
    """Raises `NotFound`. Source: GitLab app/models/project.rb `latest_successful_build_for_ref!`."""
    statement = (
        select(Job)
        .join(Pipeline, Pipeline.id == Job.pipeline_id)
        .where(
            Pipeline.project_id == project_id,
            Pipeline.ref == ref,
            Pipeline.status == "success",
            Job.name == name,
            Job.status == "success",
            Job.is_retried.is_(False),
        )
        .order_by(Pipeline.id.desc(), Job.id.desc())
        .limit(1)
    )
    job = await db.scalar(statement)
    if job is None:
        raise NotFound
    return job
