"""What a merge request changes: commits, changes, diffs, versions.

Source: doc/api/merge_requests.md, gitlabhq lib/api/merge_requests.rb, lib/api/merge_request_diffs.rb.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response, StreamingResponse

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequestVersion
from nautilus_forge.errors import NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.merge_requests import entities, versions
from nautilus_forge.merge_requests.access import MergeRequestAccess, merge_request_with
from nautilus_forge.merge_requests.show import show_one
from nautilus_forge.pagination import Paged
from nautilus_forge.params import ParamModel, Params, path_id
from nautilus_forge.policy import Ability
from nautilus_forge.repository import entities as repository
from nautilus_forge.responses import Json

router = APIRouter()


class Unified(ParamModel):
    unidiff: bool = False


async def _readable(at: Annotated[MergeRequestAccess, Depends(merge_request_with())]) -> MergeRequestAccess:
    """Who may read the code too."""
    at.at.require(Ability.READ_CODE)
    return at


Read = Annotated[MergeRequestAccess, Depends(_readable)]
VersionId = Annotated[int, Depends(path_id("version_id"))]
Form = Annotated[Unified, Params(Unified)]


@router.get("/projects/{id}/merge_requests/{iid}/commits")
async def list_commits(at: Read, db: Db, forge: TheForge, page: Paged) -> Response:
    """Newest first."""
    version = await versions.latest(db, at.merge_request.id)
    shown = await versions.commits_of(
        forge, at.merge_request, version, limit=page.per_page, offset=page.offset
    )
    total = version.commit_count if version is not None else 0
    return page.respond([repository.commit(forge.settings, at.project, commit) for commit in shown], total)


@router.get("/projects/{id}/merge_requests/{iid}/changes")
async def read_changes(at: Read, db: Db, forge: TheForge, params: Form) -> Response:
    """The merge request with all of its diff. Deprecated by GitLab in favour of `/diffs`."""
    version = await versions.latest(db, at.merge_request.id)
    changed = await versions.diff_of(forge, at.merge_request, version)
    shown = await show_one(db, forge, at.who, at.merge_request)
    shown["changes"] = [repository.diff(file, unidiff=params.unidiff) for file in changed]
    shown["overflow"] = any(file.is_too_large for file in changed)
    return Json(shown)


@router.get("/projects/{id}/merge_requests/{iid}/diffs")
async def list_diffs(at: Read, db: Db, forge: TheForge, page: Paged, params: Form) -> Response:
    version = await versions.latest(db, at.merge_request.id)
    changed = await versions.diff_of(forge, at.merge_request, version)
    return page.cut(changed, lambda file: repository.diff(file, unidiff=params.unidiff))


@router.get("/projects/{id}/merge_requests/{iid}/raw_diffs")
async def read_raw_diffs(at: Read, db: Db, forge: TheForge) -> Response:
    """As `git diff` writes it, of whatever size."""
    version = await versions.latest(db, at.merge_request.id)
    if version is None or version.head_sha is None or version.base_sha is None:
        return Response(b"", media_type="text/plain")
    base, head, project_id = version.base_sha, version.head_sha, at.project.id

    async def body() -> AsyncIterator[bytes]:
        options = ("-r", "-M", "--patch", "--no-color", "--no-ext-diff", "--no-textconv")
        async with forge.repositories.git(project_id).stream("diff-tree", *options, base, head) as chunks:
            async for chunk in chunks:
                yield chunk

    return StreamingResponse(body(), media_type="text/plain")


@router.get("/projects/{id}/merge_requests/{iid}/versions")
async def list_versions(at: Read, db: Db, page: Paged) -> Response:
    """Newest first."""
    statement = select(MergeRequestVersion).where(MergeRequestVersion.merge_request_id == at.merge_request.id)
    return await page.of(db, statement.order_by(MergeRequestVersion.id.desc()), entities.version_entity)


@router.get("/projects/{id}/merge_requests/{iid}/versions/{version_id}")
async def read_version(at: Read, db: Db, forge: TheForge, version_id: VersionId, params: Form) -> Response:
    """With its commits and its diff."""
    return Json(await _full(db, forge, at, version_id, params))


async def _full(
    db: AsyncSession, forge: Forge, at: MergeRequestAccess, version_id: int, params: Unified
) -> dict[str, Any]:
    version = await db.get(MergeRequestVersion, version_id)
    if version is None or version.merge_request_id != at.merge_request.id:
        raise NotFound
    commits = await versions.commits_of(forge, at.merge_request, version)
    changed = await versions.diff_of(forge, at.merge_request, version)
    return entities.version_entity(version) | {
        "commits": [repository.commit(forge.settings, at.project, commit) for commit in commits],
        "diffs": [repository.diff(file, unidiff=params.unidiff) for file in changed],
    }
