"""`/internal/git/…`: the gateway's question, the answer to a denied request, and the two hooks."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.auth import Principal
from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Project, ProtectedTag, User
from nautilus_forge.errors import TooManyRequests
from nautilus_forge.forge import Forge
from nautilus_forge.git.command import Git
from nautilus_forge.git.locks import clear_stale_locks
from nautilus_forge.internal.git_access import Allowed, Denied, GitGate, max_input_bytes
from nautilus_forge.internal.push_content import MISSING, locked_path
from nautilus_forge.internal.push_rules import (
    NOTES,
    Pusher,
    RefRules,
    in_quarantine,
    quarantine_alone,
    refusal,
)
from nautilus_forge.keys.deploy_keys import link_of
from nautilus_forge.lfs import locks, pointers
from nautilus_forge.lfs.objects import objects_of
from nautilus_forge.params import Id, ParamModel, Params
from nautilus_forge.policy import Level
from nautilus_forge.ports import BY_JOB, RefChange
from nautilus_forge.projects.access import level_of
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.projects.branches import rules_of
from nautilus_forge.repository import updates
from nautilus_forge.responses import Json

log = logging.getLogger(__name__)

JOB_SUFFIX = "@job"
"""`git.hook` knows it too."""


class ChangeParams(ParamModel):
    old: str
    new: str
    ref: str


class HookParams(ParamModel):
    """What a hook sends. `env`: git's quarantine variables. `deploy_key_id` not 0: that key pushes, and
    `user_id` (0: he is gone) is who made it. `is_job`: by a job's token.
    """

    project_id: Id
    user_id: Id
    deploy_key_id: Id = 0
    is_job: bool = False
    changes: list[ChangeParams]
    push_options: list[str] = []  # noqa: RUF012
    env: dict[str, str] = {}  # noqa: RUF012

    def ref_changes(self) -> list[RefChange]:
        return [RefChange(change.ref, change.old, change.new) for change in self.changes]


def git_router() -> APIRouter:
    """The routes with a gate of their own (right passwords and failures are remembered in it)."""
    router = APIRouter()
    gate = GitGate()

    @router.get("/internal/git/authorize")
    async def authorize(request: Request, db: Db, forge: TheForge) -> Response:
        """200 with the repository and who asks, or 401, or 403 for anything else that is no."""
        try:
            answer = await gate.decide(request, db)
        except TooManyRequests:
            return Response(status_code=403)
        if isinstance(answer, Denied):
            return Response(status_code=401 if answer.status == 401 else 403)
        limit = await max_input_bytes(db) if answer.is_push else 0
        return Response(headers=_identity(forge.repositories.path(answer.project.id), answer, limit))

    @router.get("/internal/git/denied")
    async def denied(request: Request, db: Db) -> Response:
        """What the client sees of a denial: GitLab's status and text."""
        answer = await gate.decide(request, db)
        if isinstance(answer, Allowed):
            return PlainTextResponse("Try again.", 503, {"Retry-After": "1"})
        headers = {"WWW-Authenticate": 'Basic realm="GitLab"'} if answer.status == 401 else {}
        return PlainTextResponse(answer.message, answer.status, headers)

    router.add_api_route("/internal/git/pre-receive", pre_receive, methods=["POST"])
    router.add_api_route("/internal/git/post-receive", post_receive, methods=["POST"])
    return router


def _identity(path: Path, allowed: Allowed, max_input: int) -> dict[str, str]:
    user = allowed.who.user
    return {
        "X-Git-Repository": path.as_posix(),
        "X-Git-Max-Input-Size": str(max_input),
        "X-Git-Project-Id": str(allowed.project.id),
        "X-Git-User-Id": str(user.id) if user is not None else "",
        "X-Git-Username": _name(allowed.who),
        "X-Git-Protocol-Allowed": "1",
    }


def _name(who: Principal) -> str:
    """What git and its hooks call who asks: a job's token makes `<user>@job` (no user can be called so)."""
    if who.user is None:
        return ""
    return who.user.username + (JOB_SUFFIX if who.job is not None else "")


async def pre_receive(db: Db, forge: TheForge, params: Annotated[HookParams, Params(HookParams)]) -> Response:
    """May the push change these refs? If so, the changes are remembered before git makes them."""
    project = await db.get(Project, params.project_id)
    pusher = await _pusher(db, project, params) if project is not None else None
    if project is None or pusher is None:
        return _no("The project you were looking for could not be found.")
    changes = params.ref_changes()
    git = forge.repositories.git(project.id)
    await asyncio.to_thread(clear_stale_locks, git.repository, [change.ref for change in changes])
    rules = await _rules(db, forge, project)
    await db.commit()  # no connection is held while git looks at the objects
    reason = await refusal(in_quarantine(git, params.env), rules, pusher, changes)
    reason = reason or await _content_refusal(db, git, project, pusher, params)
    if reason is not None:
        return _no(reason)
    followed = [change for change in changes if not change.ref.startswith(NOTES)]
    options = [option for option in params.push_options if option != BY_JOB]
    options += [BY_JOB] if params.is_job else []
    await updates.announce(db, project.id, pusher.runs_as, followed, options)
    return Json({"allowed": True})


def _no(message: str) -> Response:
    return Json({"allowed": False, "message": message})


async def _rules(db: AsyncSession, forge: Forge, project: Project) -> RefRules:
    tags = await db.scalars(select(ProtectedTag).where(ProtectedTag.project_id == project.id))
    return RefRules(
        project,
        await rules_of(db, project.id),
        tags.all(),
        is_empty=forge.repositories.is_empty(project.id),
        members_url=f"{forge.settings.external_url}/{project.path_with_namespace}/-/project_members",
    )


async def _content_refusal(
    db: AsyncSession, git: Git, project: Project, pusher: Pusher, params: HookParams
) -> str | None:
    """File locks and LFS pointers, where the project has LFS."""
    changes = params.ref_changes()
    if not attribute(project, "lfs_enabled") or all(change.is_deletion for change in changes):
        return None
    locked = await locks.of_others(db, project.id, pusher.person_id)
    await db.commit()
    if reason := await locked_path(in_quarantine(git, params.env), changes, locked):
        return reason
    quarantine = quarantine_alone(git, params.env)
    named = await pointers.pushed(quarantine) if quarantine is not None else set()
    if named and len(await objects_of(db, project.id, named)) != len(named):
        return MISSING
    return None


async def _pusher(db: AsyncSession, project: Project, params: HookParams) -> Pusher | None:
    """Whoever got as far as the hook may push; how far says his level. None: nobody known."""
    user = await db.get(User, params.user_id)
    level = await level_of(db, user, project)
    if not params.deploy_key_id:
        return Pusher(max(level, Level.DEVELOPER), user.id, user.id) if user is not None else None
    link = await link_of(db, project.id, params.deploy_key_id)
    if link is None or not link.can_push:
        return None
    may_run = user is not None and user.state == "active" and level >= Level.DEVELOPER
    person_id = user.id if user is not None else None
    return Pusher(level, person_id if may_run else None, person_id, is_deploy_key=True)


async def post_receive(forge: TheForge, params: Annotated[HookParams, Params(HookParams)]) -> Response:
    """The refs have moved: make the pipelines. Messages for the pusher come back."""
    followed = [change for change in params.ref_changes() if not change.ref.startswith(NOTES)]
    await updates.on_refs_changed(forge, params.project_id, followed)
    return Json({"messages": []})
