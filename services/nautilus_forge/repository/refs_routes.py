"""Branches and tags.

Source: doc/api/branches.md, doc/api/tags.md, gitlabhq lib/api/branches.rb, lib/api/tags.rb.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import ProtectedBranch
from nautilus_forge.errors import BadRequest, Forbidden, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import refs, revisions
from nautilus_forge.git.refs import Ref
from nautilus_forge.git.writing import Person
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Level
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects import branches as rules
from nautilus_forge.projects.access import ProjectAccess
from nautilus_forge.repository import entities
from nautilus_forge.repository.committing import move_and_follow, require_push
from nautilus_forge.repository.files_routes import Push
from nautilus_forge.repository.reading_routes import Code
from nautilus_forge.responses import Json, no_content

router = APIRouter()

BranchName = Annotated[str, Depends(path_text("branch"))]
TagName = Annotated[str, Depends(path_text("tag_name"))]


class ListBranches(ParamModel):
    search: str | None = None
    sort: Literal["name_asc", "updated_asc", "updated_desc"] = "name_asc"


class CreateBranch(ParamModel):
    branch: str = Field(min_length=1)
    ref: str = Field(min_length=1)


class ListTags(ParamModel):
    search: str | None = None
    order_by: Literal["name", "updated", "version"] = "updated"
    sort: Literal["asc", "desc"] = "desc"


class CreateTag(ParamModel):
    tag_name: str = Field(min_length=1)
    ref: str = Field(min_length=1)
    message: str | None = None


def searched(found: Iterable[Ref], search: str | None) -> list[Ref]:
    """`^term` begins with it, `term$` ends with it, else contains it; without regard to case."""
    if not search:
        return list(found)
    term = search.lower()
    if term.startswith("^"):
        return [ref for ref in found if ref.name.lower().startswith(term[1:])]
    if term.endswith("$"):
        return [ref for ref in found if ref.name.lower().endswith(term[:-1])]
    return [ref for ref in found if term in ref.name.lower()]


def _committed_at(ref: Ref) -> datetime:
    return datetime.fromisoformat(ref.commit.committed_date)


async def _shown(db: AsyncSession, forge: Forge, at: ProjectAccess, found: list[Ref]) -> list[dict[str, Any]]:
    """Branches with their protection and whether they are merged into the default branch."""
    git = forge.repositories.git(at.project.id)
    default = await refs.ref_sha(git, f"refs/heads/{at.project.default_branch}")
    merged = await refs.merged_branches(git, default) if default != ZERO_SHA else set()
    protections = await rules.rules_of(db, at.project.id)
    return [_branch(forge, at, ref, ref.name in merged, protections) for ref in found]


def _branch(
    forge: Forge, at: ProjectAccess, ref: Ref, is_merged: bool, protections: Iterable[ProtectedBranch]
) -> dict[str, Any]:
    protections = list(protections)
    is_protected = rules.is_protected(protections, ref.name)
    return entities.branch(
        forge.settings,
        at.project,
        ref,
        is_merged=is_merged and ref.name != at.project.default_branch,
        is_protected=is_protected,
        developers_can_push=is_protected and rules.can_push(protections, ref.name, Level.DEVELOPER),
        can_push=at.user is not None and rules.can_push(protections, ref.name, at.standing.level),
    )


@router.get("/projects/{id}/repository/branches")
async def list_branches(
    at: Code, db: Db, forge: TheForge, page: Paged, params: Annotated[ListBranches, Params(ListBranches)]
) -> Response:
    found = searched(await refs.list_branches(forge.repositories.git(at.project.id)), params.search)
    if params.sort != "name_asc":
        found.sort(key=_committed_at, reverse=params.sort == "updated_desc")
    shown = await _shown(db, forge, at, found[page.offset : page.offset + page.per_page])
    return page.respond(shown, len(found))


@router.get("/projects/{id}/repository/branches/{branch}")
async def read_branch(at: Code, db: Db, forge: TheForge, branch: BranchName) -> Response:
    found = await refs.find_branch(forge.repositories.git(at.project.id), branch)
    if found is None:
        raise NotFound("Branch")
    return Json((await _shown(db, forge, at, [found]))[0])


@router.head("/projects/{id}/repository/branches/{branch}")
async def has_branch(at: Code, forge: TheForge, branch: BranchName) -> Response:
    found = await refs.find_branch(forge.repositories.git(at.project.id), branch)
    return Response(status_code=204 if found is not None else 404)


@router.post("/projects/{id}/repository/branches")
async def create_branch(
    at: Push, db: Db, forge: TheForge, params: Annotated[CreateBranch, Params(CreateBranch)]
) -> Response:
    """400 for a name that is no good or taken, and for an unknown `ref`."""
    git = forge.repositories.git(at.project.id)
    if not refs.is_valid_name(params.branch):
        raise BadRequest(message="Branch name is invalid")
    if await refs.find_branch(git, params.branch) is not None:
        raise BadRequest(message="Branch already exists")
    start = await revisions.commit_sha(git, params.ref)
    if start is None:
        raise BadRequest(message=f"Invalid reference name: {params.ref}")
    await require_push(db, forge, at, params.branch)
    change = RefChange(f"refs/heads/{params.branch}", ZERO_SHA, start)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    return Json((await _shown(db, forge, at, await _existing(forge, at, params.branch)))[0], 201)


async def _existing(forge: Forge, at: ProjectAccess, name: str) -> list[Ref]:
    found = await refs.find_branch(forge.repositories.git(at.project.id), name)
    if found is None:
        raise NotFound("Branch")
    return [found]


@router.delete("/projects/{id}/repository/branches/{branch}")
async def delete_branch(at: Push, db: Db, forge: TheForge, branch: BranchName) -> Response:
    """The default branch and protected branches stay."""
    (found,) = await _existing(forge, at, branch)
    if branch == at.project.default_branch:
        raise BadRequest(message="The default branch of a project cannot be deleted.")
    is_protected = rules.is_protected(await rules.rules_of(db, at.project.id), branch)
    if is_protected and at.standing.level < Level.MAINTAINER:
        raise Forbidden("You are not allowed to delete protected branches from this project.")
    change = RefChange(f"refs/heads/{branch}", found.target, ZERO_SHA)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    return no_content()


@router.get("/projects/{id}/repository/tags")
async def list_tags(
    at: Code, forge: TheForge, page: Paged, params: Annotated[ListTags, Params(ListTags)]
) -> Response:
    found = searched(await refs.list_tags(forge.repositories.git(at.project.id)), params.search)
    if params.order_by == "updated":
        found.sort(key=lambda ref: (_committed_at(ref), ref.name), reverse=params.sort == "desc")
    elif params.order_by == "version":
        found.sort(key=lambda ref: _version_key(ref.name), reverse=params.sort == "desc")
    else:
        found.sort(key=lambda ref: ref.name, reverse=params.sort == "desc")
    return page.cut(found, lambda ref: entities.tag(forge.settings, at.project, ref))


def _version_key(name: str) -> list[tuple[int, int, str]]:
    """Numbers in a name compare as numbers: v1.9 before v1.10."""
    parts: list[tuple[int, int, str]] = []
    number = ""
    for character in name + "\0":
        if character.isascii() and character.isdigit():
            number += character
            continue
        if number:
            parts.append((0, int(number), ""))
            number = ""
        parts.append((1, 0, character))
    return parts


@router.get("/projects/{id}/repository/tags/{tag_name}")
async def read_tag(at: Code, forge: TheForge, tag_name: TagName) -> Response:
    found = await refs.find_tag(forge.repositories.git(at.project.id), tag_name)
    if found is None:
        raise NotFound("Tag")
    return Json(entities.tag(forge.settings, at.project, found))


@router.post("/projects/{id}/repository/tags")
async def create_tag(
    at: Push, db: Db, forge: TheForge, params: Annotated[CreateTag, Params(CreateTag)]
) -> Response:
    """With a `message` an annotated tag, else a lightweight one."""
    git = forge.repositories.git(at.project.id)
    if not refs.is_valid_name(params.tag_name):
        raise BadRequest(message="Tag name invalid")
    if await refs.find_tag(git, params.tag_name) is not None:
        raise BadRequest(message=f"Tag {params.tag_name} already exists")
    target = await revisions.commit_sha(git, params.ref)
    if target is None:
        raise BadRequest(message=f"Target {params.ref} is invalid")
    if params.message:
        user = at.who.require_user()
        target = await refs.write_tag(
            git, params.tag_name, target, params.message, Person(user.name, user.email)
        )
    change = RefChange(f"refs/tags/{params.tag_name}", ZERO_SHA, target)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    made = await refs.find_tag(git, params.tag_name)
    if made is None:
        raise NotFound("Tag")
    return Json(entities.tag(forge.settings, at.project, made), 201)


@router.delete("/projects/{id}/repository/tags/{tag_name}")
async def delete_tag(at: Push, db: Db, forge: TheForge, tag_name: TagName) -> Response:
    found = await refs.find_tag(forge.repositories.git(at.project.id), tag_name)
    if found is None:
        raise NotFound("Tag")
    change = RefChange(f"refs/tags/{tag_name}", found.target, ZERO_SHA)
    await move_and_follow(db, forge, at.project.id, at.user, change)
    return no_content()
