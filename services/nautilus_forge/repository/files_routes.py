"""One file at a time.

Source: doc/api/repository_files.md, gitlabhq lib/api/files.rb.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.errors import BadRequest, Forbidden, InvalidParams, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import revisions, trees
from nautilus_forge.git.command import Git
from nautilus_forge.git.trees import TreeEntry
from nautilus_forge.git.writing import Action
from nautilus_forge.lfs import pointers
from nautilus_forge.lfs.objects import objects_of
from nautilus_forge.lfs.sending import sent
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.repository import blame
from nautilus_forge.repository.committing import CommitRequest, create_commit
from nautilus_forge.repository.reading_routes import Code, raw_response
from nautilus_forge.responses import Json, no_content

router = APIRouter()

Push = Annotated[ProjectAccess, Depends(project_with(Ability.PUSH_CODE))]
FilePath = Annotated[str, Depends(path_text("file_path"))]


class AtRef(ParamModel):
    ref: str = Field(min_length=1)


class MaybeAtRef(ParamModel):
    ref: str | None = None


class ReadRaw(MaybeAtRef):
    """`lfs`: what an LFS pointer stands for, in its place."""

    lfs: bool = False


class BlameSpan(ParamModel):
    start: int = Field(ge=1)
    end: int = Field(ge=1)


class ReadBlame(AtRef):
    range: BlameSpan | None = None


class DeleteFile(ParamModel):
    branch: str = Field(min_length=1)
    commit_message: str = Field(min_length=1)
    start_branch: str | None = None
    author_email: str | None = None
    author_name: str | None = None
    last_commit_id: str | None = None


class WriteFile(DeleteFile):
    content: str
    encoding: Literal["text", "base64"] = "text"
    execute_filemode: bool | None = None


def decoded_content(content: str, encoding: str | None) -> bytes:
    """Raises `BadRequest` for bad base64."""
    if encoding != "base64":
        return content.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(message="content is not valid base64") from error


def checked_path(path: str) -> str:
    """A path that stays in its tree. Raises `InvalidParams`. Source: lib/api/validations/validators/file_path.rb."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise InvalidParams("file_path should be a valid file path")
    return path


async def _found(forge: Forge, at: ProjectAccess, path: str, ref: str) -> tuple[Git, str, TreeEntry]:
    git = forge.repositories.git(at.project.id)
    commit = await revisions.commit_sha(git, ref)
    if commit is None:
        raise NotFound("Commit")
    entry = await trees.find_entry(git, commit, checked_path(path))
    if entry is None or entry.kind != "blob":
        raise NotFound("File")
    return git, commit, entry


async def _description(git: Git, commit: str, entry: TreeEntry, ref: str, content: bytes) -> dict[str, Any]:
    return {
        "file_name": entry.name,
        "file_path": entry.path,
        "size": len(content),
        "encoding": "base64",
        "content_sha256": trees.content_sha256(content),
        "ref": ref,
        "blob_id": entry.sha,
        "commit_id": commit,
        "last_commit_id": await trees.last_commit_for_path(git, commit, entry.path),
        "execute_filemode": entry.is_executable,
    }


def _headers(description: dict[str, Any]) -> dict[str, str]:
    """`X-Gitlab-File-Name` and so on. Source: lib/api/helpers/headers_helpers.rb."""
    return {
        "X-Gitlab-" + "-".join(word.capitalize() for word in name.split("_")): _header_value(value)
        for name, value in description.items()
    }


def _header_value(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.encode("utf-8", "replace").decode("latin-1").replace("\r", "").replace("\n", "")


@router.get("/projects/{id}/repository/files/{file_path}")
async def read_file(
    at: Code, forge: TheForge, file_path: FilePath, params: Annotated[AtRef, Params(AtRef)]
) -> Response:
    git, commit, entry = await _found(forge, at, file_path, params.ref)
    content = await trees.read_blob(git, entry.sha)
    description = await _description(git, commit, entry, params.ref, content)
    encoded = base64.b64encode(content).decode("ascii")
    return Json(description | {"content": encoded}, headers=_headers(description))


@router.head("/projects/{id}/repository/files/{file_path}")
async def read_file_head(
    at: Code, forge: TheForge, file_path: FilePath, params: Annotated[AtRef, Params(AtRef)]
) -> Response:
    git, commit, entry = await _found(forge, at, file_path, params.ref)
    content = await trees.read_blob(git, entry.sha)
    return Response(headers=_headers(await _description(git, commit, entry, params.ref, content)))


@router.get("/projects/{id}/repository/files/{file_path}/raw")
async def read_raw_file(
    request: Request,
    at: Code,
    db: Db,
    forge: TheForge,
    file_path: FilePath,
    params: Annotated[ReadRaw, Params(ReadRaw)],
) -> Response:
    ref = params.ref or at.project.default_branch
    git, _, entry = await _found(forge, at, file_path, ref)
    if params.lfs and (entry.size_bytes or 0) <= pointers.LONGEST:
        oid = pointers.oid_of(await trees.read_blob(git, entry.sha))
        if oid is not None:
            return await _lfs_object(request, db, at, oid, entry.name)
    return await raw_response(git, entry.sha, entry.name)


async def _lfs_object(request: Request, db: AsyncSession, at: ProjectAccess, oid: str, name: str) -> Response:
    """Raises `NotFound` where the project has no such object."""
    stored = (await objects_of(db, at.project.id, [oid])).get(oid)
    answer = await sent(request, stored, name) if stored is not None else None
    if answer is None:
        raise NotFound
    return answer


@router.get("/projects/{id}/repository/files/{file_path}/blame")
async def read_blame(
    at: Code, forge: TheForge, file_path: FilePath, params: Annotated[ReadBlame, Params(ReadBlame)]
) -> Response:
    """Which commit each line came with; `range` for some lines alone."""
    span = params.range
    if span is not None and span.start > span.end:
        raise BadRequest(message="range[start] must be less than or equal to range[end]")
    git, commit, entry = await _found(forge, at, file_path, params.ref)
    content = await trees.read_blob(git, entry.sha)
    lines = content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
    first, last = (span.start, min(span.end, lines)) if span is not None else (None, None)
    headers = _headers(await _description(git, commit, entry, params.ref, content))
    if not lines or (first is not None and first > lines):
        return Json([], headers=headers)
    ranges = await blame.blame(git, commit, entry.path, first, last)
    found = await blame.commits_of(git, ranges)
    return Json([blame.entity(part, found[part.sha]) for part in ranges], headers=headers)


@router.head("/projects/{id}/repository/files/{file_path}/blame")
async def read_blame_head(
    at: Code, forge: TheForge, file_path: FilePath, params: Annotated[AtRef, Params(AtRef)]
) -> Response:
    return await read_file_head(at, forge, file_path, params)


@router.post("/projects/{id}/repository/files/{file_path}")
async def create_file(
    at: Push, db: Db, forge: TheForge, file_path: FilePath, params: Annotated[WriteFile, Params(WriteFile)]
) -> Response:
    await _commit(db, forge, at, params, _write_action("create", file_path, params))
    return Json({"file_path": file_path, "branch": params.branch}, 201)


@router.put("/projects/{id}/repository/files/{file_path}")
async def update_file(
    at: Push, db: Db, forge: TheForge, file_path: FilePath, params: Annotated[WriteFile, Params(WriteFile)]
) -> Response:
    await _commit(db, forge, at, params, _write_action("update", file_path, params))
    return Json({"file_path": file_path, "branch": params.branch})


@router.delete("/projects/{id}/repository/files/{file_path}")
async def delete_file(
    at: Push, db: Db, forge: TheForge, file_path: FilePath, params: Annotated[DeleteFile, Params(DeleteFile)]
) -> Response:
    await _commit(db, forge, at, params, Action("delete", checked_path(file_path)))
    return no_content()


def _write_action(kind: str, path: str, params: WriteFile) -> Action:
    content = decoded_content(params.content, params.encoding)
    return Action(kind, checked_path(path), content=content, is_executable=params.execute_filemode)


async def _commit(db: Db, forge: Forge, at: ProjectAccess, params: DeleteFile, action: Action) -> None:
    """GitLab answers 400 here where a protected branch refuses (its commits API: 403)."""
    expected = ((action.path, params.last_commit_id),) if params.last_commit_id else ()
    request = CommitRequest(
        branch=params.branch,
        message=params.commit_message,
        actions=[action],
        start_branch=params.start_branch,
        author_name=params.author_name,
        author_email=params.author_email,
        expected=expected,
    )
    try:
        await create_commit(db, forge, at, request)
    except Forbidden as refusal:
        raise BadRequest(message="You are not allowed to push into this branch") from refusal
