"""Branches.

Source: doc/api/branches.md, gitlabhq lib/api/branches.rb.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import MergeRequest, ProtectedBranch, User
from nautilus_forge.errors import BadRequest, Forbidden, NotFound
from nautilus_forge.forge import Forge
from nautilus_forge.git import refs, revisions
from nautilus_forge.git.refs import Ref
from nautilus_forge.pagination import Paged
from nautilus_forge.params import Field, ParamModel, Params, path_text
from nautilus_forge.policy import Ability, Level
from nautilus_forge.ports import ZERO_SHA, RefChange
from nautilus_forge.projects import branches as rules
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.repository import entities
from nautilus_forge.repository.committing import move_and_follow, require_push
from nautilus_forge.repository.files_routes import Push
from nautilus_forge.repository.listing import after_token, committed_at, searched
from nautilus_forge.repository.reading_routes import Code
from nautilus_forge.responses import Json, no_content

router = APIRouter()

BranchName = Annotated[str, Depends(path_text("branch"))]
Administer = Annotated[ProjectAccess, Depends(project_with(Ability.ADMIN_PROTECTED))]

_MATCHING_UNITS = 200_000
"""Work that one list may take to match its branches."""


class ListBranches(ParamModel):
    search: str | None = None
    regex: str | None = Field(default=None, max_length=512)
    sort: Literal["name_asc", "updated_asc", "updated_desc"] = "name_asc"
    pagination: Literal["legacy", "offset", "keyset"] = "offset"
    page_token: str | None = None


class CreateBranch(ParamModel):
    branch: str = Field(min_length=1)
    ref: str = Field(min_length=1)


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
    found = await refs.list_branches(forge.repositories.git(at.project.id))
    if params.sort != "name_asc":
        found.sort(key=committed_at, reverse=params.sort == "updated_desc")
    found = searched(await asyncio.to_thread(_fitting, found, params.regex), params.search)
    if params.pagination == "keyset":
        cut, headers = after_token(page, found, lambda ref: ref.name, params.page_token)
        return Json(await _shown(db, forge, at, list(cut)), headers=headers)
    shown = await _shown(db, forge, at, found[page.offset : page.offset + page.per_page])
    return page.respond(shown, len(found))


def _fitting(found: list[Ref], regex: str | None) -> list[Ref]:
    """RE2, in time linear in the names. Raises `BadRequest`."""
    if not regex:
        return found
    from nautilus_forge.ci.budget import Budget, BudgetExhausted
    from nautilus_forge.ci.regex import InvalidRegex, compile_pattern

    budget = Budget(_MATCHING_UNITS)
    try:
        pattern = compile_pattern(regex)
        return [ref for ref in found if pattern.search(ref.name, budget)]
    except (InvalidRegex, BudgetExhausted) as error:
        raise BadRequest(message="Regex is invalid") from error


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


@router.delete("/projects/{id}/repository/merged_branches")
async def delete_merged_branches(at: Push, db: Db, forge: TheForge) -> Response:
    """Those merged into the default branch, beside the request; protected ones and those of open requests stay.

    Source: gitlabhq app/services/branches/delete_merged_service.rb.
    """
    git = forge.repositories.git(at.project.id)
    default = await refs.ref_sha(git, f"refs/heads/{at.project.default_branch}")
    if default == ZERO_SHA:
        return Json({"message": "202 Accepted"}, 202)
    protections = await rules.rules_of(db, at.project.id)
    asked = select(MergeRequest.source_branch).where(
        MergeRequest.source_project_id == at.project.id, MergeRequest.state == "opened"
    )
    wanted = set((await db.scalars(asked)).all()) | {at.project.default_branch}
    doomed = [
        name
        for name in await refs.merged_branches(git, default)
        if name not in wanted and not rules.is_protected(protections, name)
    ]
    project_id, user_id = at.project.id, at.who.require_user().id
    forge.spawn(_delete_all(forge, project_id, user_id, doomed), f"merged branches of project {project_id}")
    return Json({"message": "202 Accepted"}, 202)


async def _delete_all(forge: Forge, project_id: int, user_id: int, names: list[str]) -> None:
    for name in names:
        sha = await refs.ref_sha(forge.repositories.git(project_id), f"refs/heads/{name}")
        if sha == ZERO_SHA:
            continue
        async with forge.database.unit_of_work() as db:
            user = await db.get(User, user_id)
            with contextlib.suppress(BadRequest):  # somebody pushed to it meanwhile: it stays
                await move_and_follow(
                    db, forge, project_id, user, RefChange(f"refs/heads/{name}", sha, ZERO_SHA)
                )


class ProtectBranch(ParamModel):
    developers_can_push: bool | None = None
    developers_can_merge: bool | None = None


@router.put("/projects/{id}/repository/branches/{branch}/protect")
async def protect_branch(
    at: Administer,
    db: Db,
    forge: TheForge,
    branch: BranchName,
    params: Annotated[ProtectBranch, Params(ProtectBranch)],
) -> Response:
    """The older way of `POST /protected_branches`."""
    found = await _existing(forge, at, branch)
    rule = await _rule(db, at, branch)
    if rule is None:
        rule = ProtectedBranch(project_id=at.project.id, name=branch)
        db.add(rule)
    for column, value in (
        ("push_access_level", params.developers_can_push),
        ("merge_access_level", params.developers_can_merge),
    ):
        if value is not None:
            setattr(rule, column, int(Level.DEVELOPER if value else Level.MAINTAINER))
    await db.flush()
    return Json((await _shown(db, forge, at, found))[0])


@router.put("/projects/{id}/repository/branches/{branch}/unprotect")
async def unprotect_branch(at: Administer, db: Db, forge: TheForge, branch: BranchName) -> Response:
    """The rule of exactly this name goes; one with `*` stays."""
    found = await _existing(forge, at, branch)
    if (rule := await _rule(db, at, branch)) is not None:
        await db.delete(rule)
        await db.flush()
    return Json((await _shown(db, forge, at, found))[0])


async def _rule(db: AsyncSession, at: ProjectAccess, name: str) -> ProtectedBranch | None:
    statement = select(ProtectedBranch).where(
        ProtectedBranch.project_id == at.project.id, ProtectedBranch.name == name
    )
    return await db.scalar(statement)
