"""Commits: list, read, diff, create.

Source: doc/api/commits.md, gitlabhq lib/api/commits.rb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.errors import Forbidden, InvalidParams, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import commits, diffs, refs, revisions, trees
from nautilus_forge.git.command import Git
from nautilus_forge.git.commits import Commit
from nautilus_forge.git.writing import Action
from nautilus_forge.pagination import COUNT_LIMIT, Paged
from nautilus_forge.params import Field, ParamModel, Params
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import ProjectAccess, find_project, standing_of
from nautilus_forge.projects.network import are_related
from nautilus_forge.repository import entities
from nautilus_forge.repository.committing import CommitRequest, create_commit
from nautilus_forge.repository.files_routes import Push, checked_path, decoded_content
from nautilus_forge.repository.reading_routes import Code, Sha
from nautilus_forge.responses import Json

router = APIRouter()

MOST_ACTIONS = 10_000


class ListCommits(ParamModel):
    ref_name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    path: str | None = None
    author: str | None = None
    all: bool = False
    with_stats: bool = False
    first_parent: bool = False
    order: Literal["default", "topo"] = "default"
    trailers: bool = False


class ReadCommit(ParamModel):
    stats: bool = True


class ReadDiff(ParamModel):
    unidiff: bool = False


class ReadSequence(ParamModel):
    first_parent: bool = False


class ListRefs(ParamModel):
    type: Literal["branch", "tag", "all"] = "all"


class ActionParams(ParamModel):
    action: Literal["create", "update", "move", "delete", "chmod"]
    file_path: str = Field(min_length=1)
    previous_path: str | None = None
    content: str | None = None
    encoding: Literal["text", "base64"] | None = None
    last_commit_id: str | None = None
    execute_filemode: bool | None = None


class CreateCommit(ParamModel):
    branch: str = Field(min_length=1)
    commit_message: str = Field(min_length=1)
    actions: list[ActionParams] = Field(max_length=MOST_ACTIONS)
    start_branch: str | None = None
    start_sha: str | None = None
    start_project: str | None = None
    author_email: str | None = None
    author_name: str | None = None
    stats: bool = True
    force: bool = False


@router.get("/projects/{id}/repository/commits")
async def list_commits(
    at: Code, forge: TheForge, page: Paged, params: Annotated[ListCommits, Params(ListCommits)]
) -> Response:
    """Newest first. An empty repository has none; an unknown `ref_name` is a 404."""
    git = forge.repositories.git(at.project.id)
    ref = params.ref_name or at.project.default_branch
    start = await revisions.commit_sha(git, ref)
    if start is None and not params.all:
        if params.ref_name and not forge.repositories.is_empty(at.project.id):
            raise NotFound("Commit")
        return page.respond([], 0)
    if params.path and (params.path.startswith("/") or not trees.is_inside(params.path)):
        return page.respond([], 0)
    options = _options(params, start)
    paths = [params.path] if params.path else []
    cut = (f"--max-count={page.per_page}", f"--skip={page.offset}")
    listed = await commits.read_commits(git, *cut, *options, paths=paths)
    total = await commits.count_commits(git, f"--max-count={COUNT_LIMIT + 1}", *options, paths=paths)
    shown = [entities.commit(forge.settings, at.project, commit) for commit in listed]
    if params.with_stats:
        counted = await commits.read_all_stats(git, [commit.sha for commit in listed])
        for entity in shown:
            entity["stats"] = entities.stats(counted[entity["id"]])
    return page.respond(shown, total)


def _options(params: ListCommits, start: str | None) -> list[str]:
    """Options of `git log`, each value in its own argument with `=`: none can become another option."""
    options = ["--topo-order"] if params.order == "topo" else []
    if params.first_parent:
        options.append("--first-parent")
    if params.since is not None:
        options.append(f"--since={params.since.isoformat()}")
    if params.until is not None:
        options.append(f"--until={params.until.isoformat()}")
    if params.author:
        options += ["--regexp-ignore-case", "--fixed-strings", f"--author={params.author}"]
    return [*options, *(("--branches", "--tags") if params.all or start is None else (start,))]


@router.post("/projects/{id}/repository/commits")
async def commit_files(
    at: Push, db: Db, forge: TheForge, params: Annotated[CreateCommit, Params(CreateCommit)]
) -> Response:
    """Source: doc/api/commits.md ("Create a commit with multiple files and actions")."""
    request = CommitRequest(
        branch=params.branch,
        message=params.commit_message,
        actions=[_action(action) for action in params.actions],
        start_branch=params.start_branch,
        start_sha=params.start_sha,
        start_project_id=await _start_project(db, at, params.start_project),
        author_name=params.author_name,
        author_email=params.author_email,
        force=params.force,
        expected=tuple((a.file_path, a.last_commit_id) for a in params.actions if a.last_commit_id),
    )
    sha = await create_commit(db, forge, at, request)
    git = forge.repositories.git(at.project.id)
    commit = await commits.read_commit(git, sha)
    return Json(await _detail(db, forge, at, git, commit, with_stats=params.stats), 201)


async def _start_project(db: AsyncSession, at: ProjectAccess, id_or_path: str | None) -> int | None:
    """Another project of the fork network, whose code one may read. Raises `NotFound`, `Forbidden`."""
    if id_or_path is None:
        return None
    other = await find_project(db, id_or_path)
    if other is None:
        raise NotFound("Project")
    standing = await standing_of(db, at.who, other)
    if not standing.can(Ability.READ_CODE) or not await are_related(db, at.project, other):
        raise Forbidden(f"Project is not included in the fork network for {at.project.name_with_namespace}")
    return other.id


def _action(params: ActionParams) -> Action:
    """Raises `InvalidParams` in Grape's wording where something that this action needs is missing."""
    kind, content = params.action, params.content
    if kind in ("create", "update") and content is None:
        if kind == "update":
            raise InvalidParams("actions[content] is missing")
        content = ""
    if kind == "move" and not params.previous_path:
        raise InvalidParams("actions[previous_path] is missing")
    if kind == "chmod" and params.execute_filemode is None:
        raise InvalidParams("actions[execute_filemode] is missing")
    takes_content = kind in ("create", "update", "move") and content is not None
    return Action(
        kind,
        checked_path(params.file_path),
        previous_path=checked_path(params.previous_path) if params.previous_path else None,
        content=decoded_content(content, params.encoding) if takes_content and content is not None else None,
        is_executable=params.execute_filemode,
    )


async def _detail(
    db: Db, forge: Forge, at: ProjectAccess, git: Git, commit: Commit, *, with_stats: bool
) -> dict[str, object]:
    counted = await commits.read_stats(git, commit) if with_stats else None
    last = await forge.last_pipeline(db, at.project.id, commit.sha)
    return entities.commit_detail(forge.settings, at.project, commit, counted, last)


async def existing_commit(git: Git, sha: str) -> Commit:
    """By name of a branch or tag, or (short) sha. Raises `NotFound`."""
    full = await revisions.commit_sha(git, sha)
    if full is None:
        raise NotFound("Commit")
    return await commits.read_commit(git, full)


@router.get("/projects/{id}/repository/commits/{sha}")
async def read_commit(
    at: Code, db: Db, forge: TheForge, sha: Sha, params: Annotated[ReadCommit, Params(ReadCommit)]
) -> Response:
    git = forge.repositories.git(at.project.id)
    return Json(await _detail(db, forge, at, git, await existing_commit(git, sha), with_stats=params.stats))


@router.get("/projects/{id}/repository/commits/{sha}/diff")
async def read_diff(
    at: Code, forge: TheForge, page: Paged, sha: Sha, params: Annotated[ReadDiff, Params(ReadDiff)]
) -> Response:
    """What the commit changed against its first parent."""
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    changed = await diffs.read_diff(git, commit.parents[0] if commit.parents else None, commit.sha)
    return page.cut(changed, lambda diff: entities.diff(diff, unidiff=params.unidiff))


@router.get("/projects/{id}/repository/commits/{sha}/refs")
async def read_refs(
    at: Code, forge: TheForge, page: Paged, sha: Sha, params: Annotated[ListRefs, Params(ListRefs)]
) -> Response:
    """Branches and tags that contain the commit."""
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    kinds = {"branch": ["branch"], "tag": ["tag"], "all": ["branch", "tag"]}[params.type]
    found = [(kind, name) for kind in kinds for name in await refs.containing(git, kind, commit.sha)]
    return page.cut(found, lambda ref: {"type": ref[0], "name": ref[1]})


@router.get("/projects/{id}/repository/commits/{sha}/sequence")
async def read_sequence(
    at: Code, forge: TheForge, sha: Sha, params: Annotated[ReadSequence, Params(ReadSequence)]
) -> Response:
    """How many commits there are up to this one."""
    git = forge.repositories.git(at.project.id)
    commit = await existing_commit(git, sha)
    options = ("--first-parent",) if params.first_parent else ()
    return Json({"count": await commits.count_commits(git, *options, commit.sha)})


@router.get("/projects/{id}/repository/commits/{sha}/signature")
async def read_signature(at: Code, forge: TheForge, sha: Sha) -> Response:
    """Signatures are not checked here: none is shown."""
    await existing_commit(forge.repositories.git(at.project.id), sha)
    raise NotFound("Signature")
