"""Checking a CI configuration without making a pipeline.

Source: doc/api/lint.md, GitLab lib/api/lint.rb.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from nautilus_forge.ci.model import Context
from nautilus_forge.ci_half import Ci, CiHalf
from nautilus_forge.db.dependency import Db
from nautilus_forge.errors import NotFound
from nautilus_forge.git import revisions
from nautilus_forge.params import ParamModel, Params
from nautilus_forge.pipelines import configuration, creation, origin
from nautilus_forge.pipelines.configuration import Source
from nautilus_forge.pipelines.refusal import Refused
from nautilus_forge.policy import Ability
from nautilus_forge.ports import ZERO_SHA
from nautilus_forge.projects.access import ProjectAccess, project_with
from nautilus_forge.responses import Json

router = APIRouter()

Reader = Annotated[ProjectAccess, Depends(project_with(Ability.READ_CODE))]
Creator = Annotated[ProjectAccess, Depends(project_with(Ability.CREATE_PIPELINE))]


class LintStored(ParamModel):
    content_ref: str | None = None
    sha: str | None = None
    dry_run: bool = False
    dry_run_ref: str | None = None
    ref: str | None = None
    include_jobs: bool = False


class LintGiven(ParamModel):
    content: str
    dry_run: bool = False
    include_jobs: bool = False
    ref: str | None = None


@router.get("/projects/{id}/ci/lint")
async def lint_stored(
    at: Reader, db: Db, ci: Ci, params: Annotated[LintStored, Params(LintStored)]
) -> Response:
    """The project's own configuration at a ref or commit. 404 for a ref that is none."""
    source = await _source(ci, at, params.content_ref or params.sha)
    try:
        content = await configuration.read_configuration(ci.forge, db, source)
    except configuration.NoConfiguration:
        return Json(_broken("Please provide content of your .gitlab-ci.yml"))
    except configuration.BrokenConfiguration as error:
        return Json(_broken(str(error)))
    asked = _Asked(params.dry_run, params.include_jobs, params.dry_run_ref or params.ref)
    return await _linted(ci, db, at, source, content, asked)


@router.post("/projects/{id}/ci/lint")
async def lint_given(
    at: Creator, db: Db, ci: Ci, params: Annotated[LintGiven, Params(LintGiven)]
) -> Response:
    """A configuration in the request. 200 also where it has mistakes (GitLab's own answer)."""
    asked = _Asked(params.dry_run, params.include_jobs, params.ref)
    if await _default_sha(ci, at) is None and not asked.is_dry_run:
        return await _linted_without_repository(at, params.content, asked)
    source = await _source(ci, at, None)
    return await _linted(ci, db, at, source, params.content, asked)


@dataclass(frozen=True)
class _Asked:
    """`ref`: what a dry run's pipeline would be made on; None: the default branch."""

    is_dry_run: bool
    includes_jobs: bool
    ref: str | None


async def _source(ci: CiHalf, at: ProjectAccess, content_ref: str | None) -> Source:
    """Raises `NotFound`."""
    git = ci.forge.repositories.git(at.project.id)
    name = content_ref or at.project.default_branch
    sha = await revisions.commit_sha(git, name)
    if sha is None:
        raise NotFound("Commit" if await _default_sha(ci, at) else "Repository")
    return Source(at.project, at.user, name, False, sha, ZERO_SHA, "push")


async def _default_sha(ci: CiHalf, at: ProjectAccess) -> str | None:
    """None in an empty repository."""
    return await revisions.commit_sha(ci.forge.repositories.git(at.project.id), at.project.default_branch)


async def _linted_without_repository(at: ProjectAccess, content: str, asked: _Asked) -> Response:
    """What can be said of a configuration before there is a commit: everything but what it includes."""
    from nautilus_forge.ci.lint import lint

    branch = at.project.default_branch
    context = Context(ref=branch, default_branch=branch, file=at.project.ci_path)
    result = await asyncio.to_thread(lint, content, context)
    return Json(result.as_json(include_jobs=asked.includes_jobs))


async def _linted(
    ci: CiHalf, db: AsyncSession, at: ProjectAccess, source: Source, content: str, asked: _Asked
) -> Response:
    """A dry run is as if somebody made the pipeline: it needs the ref, and the right to run pipelines on it."""
    from nautilus_forge.ci.lint import lint

    if asked.is_dry_run:
        git, level = ci.forge.repositories.git(at.project.id), at.standing.level
        ref = asked.ref or at.project.default_branch
        try:
            source = await origin.source_of(db, git, at.project, at.user, level, ref, "push")
        except Refused as refused:
            return Json(_broken(str(refused)))
    context = await creation.context_for(ci, db, source, content)
    result = await asyncio.to_thread(lint, content, context, dry_run=asked.is_dry_run)
    return Json(result.as_json(include_jobs=asked.includes_jobs))


def _broken(message: str) -> dict[str, Any]:
    return {"valid": False, "errors": [message], "warnings": [], "merged_yaml": None, "includes": []}
