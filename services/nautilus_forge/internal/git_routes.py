"""`/internal/git/…`: the gateway's question, the answer to a denied request, and the two hooks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from nautilus_forge.db.dependency import Db, TheForge
from nautilus_forge.db.models import Project, User
from nautilus_forge.errors import TooManyRequests
from nautilus_forge.internal.git_access import Allowed, Denied, GitGate
from nautilus_forge.internal.push_rules import in_quarantine, refusal
from nautilus_forge.keys.deploy_keys import link_of
from nautilus_forge.params import Id, ParamModel, Params
from nautilus_forge.policy import Level
from nautilus_forge.ports import RefChange
from nautilus_forge.projects.access import level_of
from nautilus_forge.projects.branches import rules_of
from nautilus_forge.repository import updates
from nautilus_forge.responses import Json

log = logging.getLogger(__name__)


class ChangeParams(ParamModel):
    old: str
    new: str
    ref: str


class HookParams(ParamModel):
    """What a hook sends. `env`: git's quarantine variables. `deploy_key_id` not 0: that key pushes, and
    `user_id` (0: he is gone) is who made it.
    """

    project_id: Id
    user_id: Id
    deploy_key_id: Id = 0
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
        return Response(headers=_identity(forge.repositories.path(answer.project.id).as_posix(), answer))

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


def _identity(path: str, allowed: Allowed) -> dict[str, str]:
    user = allowed.who.user
    return {
        "X-Git-Repository": path,
        "X-Git-Project-Id": str(allowed.project.id),
        "X-Git-User-Id": str(user.id) if user is not None else "",
        "X-Git-Username": user.username if user is not None else "",
        "X-Git-Protocol-Allowed": "1",
    }


async def pre_receive(db: Db, forge: TheForge, params: Annotated[HookParams, Params(HookParams)]) -> Response:
    """May the push change these refs? If so, the changes are remembered before git makes them."""
    project = await db.get(Project, params.project_id)
    pusher = await _pusher(db, project, params) if project is not None else None
    if project is None or pusher is None:
        return Json({"allowed": False, "message": "The project you were looking for could not be found."})
    git = in_quarantine(forge.repositories.git(project.id), params.env)
    reason = await refusal(
        git,
        project,
        await rules_of(db, project.id),
        pusher.level,
        params.ref_changes(),
        is_empty=forge.repositories.is_empty(project.id),
    )
    if reason is not None:
        return Json({"allowed": False, "message": reason})
    await updates.announce(db, project.id, pusher.user_id, params.ref_changes(), params.push_options)
    return Json({"allowed": True})


@dataclass(frozen=True)
class Pusher:
    """`level`: for protected branches. `user_id`: with whose rights pipelines work; None: there are to be none."""

    level: Level
    user_id: int | None


async def _pusher(db: AsyncSession, project: Project, params: HookParams) -> Pusher | None:
    """Whoever got as far as the hook may push; how far says his level. None: nobody known.

    A deploy key pushes to no protected branch (Source: gitlabhq lib/gitlab/deploy_key_access.rb).
    """
    user = await db.get(User, params.user_id)
    level = await level_of(db, user, project)
    if not params.deploy_key_id:
        return Pusher(max(level, Level.DEVELOPER), user.id) if user is not None else None
    link = await link_of(db, project.id, params.deploy_key_id)
    if link is None or not link.can_push:
        return None
    may_run = user is not None and user.state == "active" and level >= Level.DEVELOPER
    return Pusher(Level.NONE, user.id if user is not None and may_run else None)


async def post_receive(forge: TheForge, params: Annotated[HookParams, Params(HookParams)]) -> Response:
    """The refs have moved: make the pipelines. Messages for the pusher come back."""
    await updates.on_refs_changed(forge, params.project_id, params.ref_changes())
    return Json({"messages": []})
