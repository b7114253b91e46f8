"""`/projects/:id/registry/repositories`, `/registry/repositories/:id`: repositories and tags.

Source: doc/api/container_registry.md, gitlabhq lib/api/project_container_repositories.rb,
lib/api/container_repositories.rb, lib/api/entities/container_registry.rb.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.auth import Principal, authenticated
from nautilus_forge.db.dependency import Db
from nautilus_forge.db.engine import after_commit
from nautilus_forge.db.models import ContainerRepository, Project
from nautilus_forge.errors import BadRequest, NotFound
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with, standing_of
from nautilus_forge.registry import cleanup
from nautilus_forge.registry.half import ContainerRegistry, the_registry
from nautilus_forge.registry.paths import is_tag
from nautilus_forge.registry.tags import TagDetails, delete_tags, tag_details
from nautilus_forge.responses import Json, timestamp

router = APIRouter()

_ONE_CLEANUP_IN = timedelta(hours=1)
_TOO_OFTEN = (
    "This request has already been made. "
    "You can run this at most once an hour for a given container repository"
)

Read = Annotated[ProjectAccess, Depends(project_with(Ability.READ_IMAGE, job_token=True))]
Destroy = Annotated[ProjectAccess, Depends(project_with(Ability.DESTROY_IMAGE, job_token=True))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_IMAGE))]
Registry = Annotated[ContainerRegistry, Depends(the_registry)]
RepositoryId = Annotated[int, Depends(path_id("repository_id", "Container Repository"))]
TagName = Annotated[str, Depends(path_text("tag_name"))]


class ShowParams(ParamModel):
    tags: bool = False
    tags_count: bool = False
    size: bool = False


class CleanupParams(ParamModel):
    name_regex_delete: str | None = None
    name_regex: str | None = None
    name_regex_keep: str | None = None
    keep_n: int | None = None
    older_than: str | None = None


@router.get("/projects/{id}/registry/repositories")
async def list_repositories(
    at: Read, db: Db, registry: Registry, page: Paged, params: Annotated[ShowParams, Params(ShowParams)]
) -> Response:
    """Those that somebody got a token to push for."""
    statement = select(ContainerRepository).where(ContainerRepository.project_id == at.project.id)
    total = await page.count(db, statement)
    statement = statement.order_by(ContainerRepository.id).limit(page.per_page).offset(page.offset)
    rows = (await db.scalars(statement)).all()
    await db.commit()
    return page.respond([await _shown(registry, row, params) for row in rows], total)


@router.get("/registry/repositories/{repository_id}")
async def read_repository(
    request: Request,
    db: Db,
    registry: Registry,
    who: Annotated[Principal, Depends(authenticated(job_token=True))],
    repository_id: RepositoryId,
    params: Annotated[ShowParams, Params(ShowParams)],
) -> Response:
    """By its own id, whatever its project. `size` is what its tags take, each layer counted for each image."""
    row = await db.get(ContainerRepository, repository_id)
    project = await db.get(Project, row.project_id) if row is not None and row.project_id else None
    if row is None or project is None or project.deleted_at is not None:
        raise NotFound("Container Repository")
    standing = await standing_of(db, who, project)
    if not standing.can(Ability.READ_PROJECT):
        raise NotFound("Container Repository")
    standing.require(Ability.READ_IMAGE)
    await db.commit()
    shown = await _shown(registry, row, params)
    if params.size:
        details = [
            await tag_details(registry, row.path, name) for name in await registry.client.tags(row.path)
        ]
        shown["size"] = sum(tag.total_size or 0 for tag in details if tag is not None)
    if standing.can(Ability.ADMIN_IMAGE):
        base = request.app.state.forge.settings.external_url
        shown["delete_api_path"] = f"{base}/api/v4/projects/{project.id}/registry/repositories/{row.id}"
    return Json(shown)


@router.delete("/projects/{id}/registry/repositories/{repository_id}")
async def delete_repository(
    at: Administer, db: Db, registry: Registry, repository_id: RepositoryId
) -> Response:
    """With all its images; in the background."""
    row = await _repository(db, at.project, repository_id)
    row.status = "delete_scheduled"
    _begin_after_commit(db, registry)
    return Json(202, 202)


@router.get("/projects/{id}/registry/repositories/{repository_id}/tags")
async def list_tags(
    at: Read, db: Db, registry: Registry, page: Paged, repository_id: RepositoryId
) -> Response:
    row = await _repository(db, at.project, repository_id)
    await db.commit()
    names = await registry.client.tags(row.path)
    return page.cut(names, lambda name: _tag(registry, row, name))


@router.delete("/projects/{id}/registry/repositories/{repository_id}/tags")
async def delete_tags_in_bulk(
    at: Administer,
    db: Db,
    registry: Registry,
    repository_id: RepositoryId,
    params: Annotated[CleanupParams, Params(CleanupParams)],
) -> Response:
    """In the background; at most once an hour for each repository."""
    wanted = cleanup.checked(
        delete=params.name_regex_delete,
        deprecated=params.name_regex,
        keep=params.name_regex_keep,
        keep_n=params.keep_n,
        older_than=params.older_than,
    )
    row = await _repository(db, at.project, repository_id, lock=True)
    now = datetime.now(UTC)
    if row.cleanup_requested_at is not None and now - row.cleanup_requested_at < _ONE_CLEANUP_IN:
        raise BadRequest(message=_TOO_OFTEN)
    row.cleanup, row.cleanup_requested_at = wanted.as_json(), now
    _begin_after_commit(db, registry)
    return Json(202, 202)


@router.get("/projects/{id}/registry/repositories/{repository_id}/tags/{tag_name}")
async def read_tag(
    at: Read, db: Db, registry: Registry, repository_id: RepositoryId, tag_name: TagName
) -> Response:
    row = await _repository(db, at.project, repository_id)
    await db.commit()
    details = await _existing(registry, row, tag_name)
    revision = details.revision
    return Json(
        _tag(registry, row, tag_name)
        | {
            "revision": revision,
            "short_revision": revision[:9] if revision else None,
            "digest": details.digest,
            "created_at": details.created_at.isoformat(timespec="milliseconds")
            if details.created_at
            else None,
            "total_size": details.total_size,
        }
    )


@router.delete("/projects/{id}/registry/repositories/{repository_id}/tags/{tag_name}")
async def delete_tag(
    at: Destroy, db: Db, registry: Registry, repository_id: RepositoryId, tag_name: TagName
) -> Response:
    """This tag alone: others of the same image stay."""
    row = await _repository(db, at.project, repository_id)
    await db.commit()
    await _existing(registry, row, tag_name)
    await delete_tags(registry, row.path, [tag_name])
    return Json(200)


async def _repository(
    db: AsyncSession, project: Project, repository_id: int, *, lock: bool = False
) -> ContainerRepository:
    """Raises `NotFound`, also for another project's."""
    statement = select(ContainerRepository).where(
        ContainerRepository.id == repository_id, ContainerRepository.project_id == project.id
    )
    row = await db.scalar(statement.with_for_update() if lock else statement)
    if row is None:
        raise NotFound("Container Repository")
    return row


async def _existing(registry: ContainerRegistry, row: ContainerRepository, name: str) -> TagDetails:
    details = await tag_details(registry, row.path, name) if is_tag(name) else None
    if details is None:
        raise NotFound("Tag")
    return details


def _begin_after_commit(db: AsyncSession, registry: ContainerRegistry) -> None:
    async def begin() -> None:
        registry.work.set()

    after_commit(db, begin)


async def _shown(registry: ContainerRegistry, row: ContainerRepository, params: ShowParams) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "path": row.path,
        "project_id": row.project_id,
        "location": registry.location(row.path),
        "created_at": timestamp(row.created_at),
        "cleanup_policy_started_at": timestamp(row.cleanup_started_at),
        "status": row.status,
    }
    names: Sequence[str] = ()
    if params.tags or params.tags_count:
        names = await registry.client.tags(row.path)
    if params.tags_count:
        shown["tags_count"] = len(names)
    if params.tags:
        shown["tags"] = [_tag(registry, row, name) for name in names]
    return shown


def _tag(registry: ContainerRegistry, row: ContainerRepository, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"{row.path}:{name}",
        "location": f"{registry.location(row.path)}:{name}",
    }
