"""Reading a repository: tree, blobs, archive, compare, merge base.

Source: doc/api/repositories.md, gitlabhq lib/api/repositories.rb.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Project
from nautilus_forge.errors import BadRequest, Forbidden, InvalidParams, NotFound
from nautilus_forge.git import archives, commits, diffs, refs, revisions, trees
from nautilus_forge.git.command import Git
from nautilus_forge.pagination import Paged
from nautilus_forge.params import CommaList, Field, Id, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, find_project, project_with, standing_of
from nautilus_forge.projects.network import are_related
from nautilus_forge.repository import entities
from nautilus_forge.repository.listing import after_token
from nautilus_forge.responses import Json

router = APIRouter()

Code = Annotated[
    ProjectAccess,
    Depends(project_with(Ability.READ_CODE, "api", "read_api", "read_repository", job_token=True)),
]
Sha = Annotated[str, Depends(path_text("sha"))]

MOST_COMPARED = 1000
"""Commits that a comparison lists."""


class ReadTree(ParamModel):
    ref: str | None = None
    path: str = ""
    recursive: bool = False
    pagination: Literal["legacy", "keyset", "none"] = "legacy"
    page_token: str | None = None


class ReadArchive(ParamModel):
    sha: str | None = None
    format: str | None = None
    path: str = ""
    exclude_paths: CommaList = Field(default=[], max_length=100)
    include_lfs_blobs: bool = True


class Contributors(ParamModel):
    ref: str | None = None
    order_by: Literal["email", "name", "commits"] = "commits"
    sort: Literal["asc", "desc"] = "asc"


class CompareRefs(ParamModel):
    from_: str = Field(validation_alias="from")
    to: str
    from_project_id: Id | None = None
    straight: bool = False
    unidiff: bool = False


class MergeBase(ParamModel):
    refs: CommaList


@router.get("/projects/{id}/repository/tree")
async def read_tree(
    at: Code, forge: TheForge, page: Paged, params: Annotated[ReadTree, Params(ReadTree)]
) -> Response:
    """Files and folders, folders first. 404 for an unknown ref or folder."""
    if params.pagination == "none" and not params.recursive:
        raise InvalidParams('pagination cannot be "none" unless "recursive" is true')
    git = forge.repositories.git(at.project.id)
    commit = await revisions.commit_sha(git, params.ref or at.project.default_branch)
    if commit is None:
        raise NotFound("Tree")
    entries = await trees.list_tree(git, commit, params.path, recursive=params.recursive)
    if entries is None:
        raise NotFound("invalid revision or path")
    if params.pagination == "none":
        return Json([entities.tree_entry(entry) for entry in entries])
    if params.pagination == "keyset":
        shown, headers = after_token(page, entries, lambda entry: entry.sha, params.page_token)
        return Json([entities.tree_entry(entry) for entry in shown], headers=headers)
    return page.cut(entries, entities.tree_entry)


@router.get("/projects/{id}/repository/blobs/{sha}")
async def read_blob(at: Code, forge: TheForge, sha: Sha) -> Response:
    git = forge.repositories.git(at.project.id)
    blob = await _blob(git, sha)
    content = await trees.read_blob(git, blob)
    encoded = base64.b64encode(content).decode("ascii")
    return Json({"size": len(content), "encoding": "base64", "content": encoded, "sha": blob})


@router.get("/projects/{id}/repository/blobs/{sha}/raw")
async def read_raw_blob(at: Code, forge: TheForge, sha: Sha) -> Response:
    git = forge.repositories.git(at.project.id)
    return await raw_response(git, await _blob(git, sha))


async def _blob(git: Git, sha: str) -> str:
    blob = await revisions.object_of_type(git, sha, "blob")
    if blob is None:
        raise NotFound("Blob")
    return blob


async def raw_response(git: Git, blob: str, filename: str | None = None) -> Response:
    """A blob's bytes, streamed; never something that a browser would run."""
    size = await trees.blob_size(git, blob)

    async def body() -> AsyncIterator[bytes]:
        async with git.stream("cat-file", "blob", blob) as chunks:
            async for chunk in chunks:
                yield chunk

    headers = {
        "Content-Length": str(size),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if filename is not None:
        headers["Content-Disposition"] = archives.disposition("inline", filename)
    return StreamingResponse(body(), media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/projects/{id}/repository/archive")
@router.get("/projects/{id}/repository/archive.{extension}")
async def read_archive(
    request: Request, at: Code, forge: TheForge, params: Annotated[ReadArchive, Params(ReadArchive)]
) -> Response:
    """`archive`, `archive.zip`, `archive.tar.gz` …; git writes straight into the answer."""
    git = forge.repositories.git(at.project.id)
    ref = params.sha or at.project.default_branch
    form = archives.format_of(request.path_params.get("extension") or params.format or "tar.gz")
    commit = await revisions.commit_sha(git, ref)
    if form is None or commit is None:
        raise NotFound("File")
    folder = params.path.strip("/")
    if not all(trees.is_inside(path) for path in params.exclude_paths):
        raise InvalidParams("exclude_paths is invalid")
    if folder and await trees.find_entry(git, commit, folder) is None:
        raise NotFound("File")
    name = archives.name_of(at.project.path, ref, commit, folder)

    async def body() -> AsyncIterator[bytes]:
        async with git.stream(*archives.argv(form, name, commit, folder, params.exclude_paths)) as chunks:
            async for chunk in chunks:
                yield chunk

    headers = {"Content-Disposition": archives.disposition("attachment", f"{name}.{form.extension}")}
    return StreamingResponse(body(), media_type=form.media_type, headers=headers)


@router.get("/projects/{id}/repository/compare")
async def compare(
    at: Code, db: Db, forge: TheForge, params: Annotated[CompareRefs, Params(CompareRefs)]
) -> Response:
    """Commits and changes from the merge base (or, `straight`, from `from` itself) to `to`.

    `from` is looked up in `from_project_id`, a project of the same network of forks.
    """
    git = forge.repositories.git(at.project.id)
    target = await _target_of_compare(db, at, params.from_project_id)
    theirs = forge.repositories.git(target.id)
    if target.id != at.project.id:
        git = git.with_env({"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(theirs.repository / "objects")})
    old, new = await revisions.commit_sha(theirs, params.from_), await revisions.commit_sha(git, params.to)
    if old is None or new is None:
        raise NotFound("Ref")
    base = old if params.straight else await refs.merge_base(git, old, new)
    listed = await commits.read_commits(git, "--reverse", f"--max-count={MOST_COMPARED}", f"{old}..{new}")
    changed = await diffs.read_diff(git, base, new)
    settings, project = forge.settings, at.project
    dots = ".." if params.straight else "..."
    url = f"{entities.project_url(settings, project)}/-/compare/{params.from_}{dots}{params.to}"
    return Json(
        {
            "commit": entities.commit(settings, project, listed[-1]) if listed else None,
            "commits": [entities.commit(settings, project, commit) for commit in listed],
            "diffs": [entities.diff(diff, unidiff=params.unidiff) for diff in changed],
            "compare_timeout": False,
            "compare_same_ref": params.from_ == params.to,
            "web_url": url,
        }
    )


async def _target_of_compare(db: AsyncSession, at: ProjectAccess, project_id: int | None) -> Project:
    """Raises `BadRequest` for a project that is no relative, `Forbidden` for one whose code one may not read."""
    if project_id is None or project_id == at.project.id:
        return at.project
    target = await find_project(db, str(project_id))
    if target is None or not await are_related(db, at.project, target):
        raise BadRequest(
            message=f"Target project id:{project_id} is not a fork of project id:{at.project.id}"
        )
    if not (await standing_of(db, at.who, target)).can(Ability.READ_CODE):
        raise Forbidden("You don't have access to this fork's parent project")
    return target


@router.get("/projects/{id}/repository/contributors")
async def list_contributors(
    at: Code, forge: TheForge, page: Paged, params: Annotated[Contributors, Params(Contributors)]
) -> Response:
    """Lines are not counted, as in GitLab: additions and deletions are 0."""
    git = forge.repositories.git(at.project.id)
    commit = await revisions.commit_sha(git, params.ref or at.project.default_branch)
    if commit is None:
        if params.ref:
            raise NotFound
        return page.respond([], 0)
    found = await commits.contributors(git, commit)
    found.sort(key=lambda who: getattr(who, params.order_by), reverse=params.sort == "desc")
    return page.cut(
        found,
        lambda who: {
            "name": who.name,
            "email": who.email,
            "commits": who.commits,
            "additions": 0,
            "deletions": 0,
        },
    )


@router.get("/projects/{id}/repository/merge_base")
async def merge_base(at: Code, forge: TheForge, params: Annotated[MergeBase, Params(MergeBase)]) -> Response:
    if len(params.refs) < 2:
        raise BadRequest(message="Provide at least 2 refs")
    git = forge.repositories.git(at.project.id)
    found = {ref: await revisions.commit_sha(git, ref) for ref in params.refs}
    unknown = [ref for ref, sha in found.items() if sha is None]
    if unknown:
        raise BadRequest(message=f"Could not find ref{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}")
    base = await refs.merge_base(git, *(sha for sha in found.values() if sha is not None))
    if base is None:
        raise NotFound("Merge Base")
    return Json(entities.commit(forge.settings, at.project, await commits.read_commit(git, base)))
