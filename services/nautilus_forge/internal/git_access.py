"""May this git request through? The question of the gateway's `auth_request`, with GitLab's answers.

Source: gitlabhq app/controllers/repositories/git_http_client_controller.rb, lib/gitlab/git_access.rb (messages),
doc/topics/git/clone.md; Basic credentials as in lib/gitlab/auth.rb (`find_for_git_client`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import NOBODY, Principal, refusal_of
from nautilus_forge.basic_auth import credentials
from nautilus_forge.db.dependency import forge_of
from nautilus_forge.db.models import Project
from nautilus_forge.deploy_tokens.service import reaches
from nautilus_forge.policy import Ability, Level, Standing
from nautilus_forge.projects.access import find_project, standing_of
from nautilus_forge.projects.attributes import attribute

_PATH = re.compile(r"/(?P<project>.+?)\.git/(?P<what>info/refs|git-upload-pack|git-receive-pack)")
_SERVICES = ("git-upload-pack", "git-receive-pack")
DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, "
    "expired, or improperly scoped."
)
NOT_FOUND = "The project you were looking for could not be found or you don't have permission to view it."
NO_PUSH = "You are not allowed to push code to this project."
NO_DOWNLOAD = "You are not allowed to download code from this project."
NO_UPLOAD = "You are not allowed to upload code."
NO_HTTP = "Git access over HTTP is not allowed"
NO_SSH = "Git access over SSH is not allowed"
BLOCKED = "Your account has been blocked."
ARCHIVED = "You can't push code to a read-only GitLab instance."


@dataclass(frozen=True)
class GitRequest:
    """`is_push`: would change the repository."""

    project: str
    is_push: bool


@dataclass(frozen=True)
class Allowed:
    project: Project
    who: Principal
    is_push: bool


@dataclass(frozen=True)
class Denied:
    """GitLab's status and its text for the user's terminal."""

    status: int
    message: str


def parse(uri: str) -> GitRequest | None:
    """The original URI of the request; None for what is no request of git's."""
    parts = urlsplit(uri)
    match = _PATH.fullmatch(parts.path)
    if match is None:
        return None
    service = match["what"]
    if service == "info/refs":
        service = parse_qs(parts.query).get("service", [""])[-1]
    if service not in _SERVICES:
        return None
    return GitRequest(unquote(match["project"]), service == "git-receive-pack")


async def max_input_bytes(db: AsyncSession) -> int:
    """Longest pack of a push, 0 for any. Source: doc/api/settings.md `receive_max_input_size` (MiB)."""
    return ((await current_values(db)).receive_max_input_size or 0) << 20


class GitGate:
    """Decides, with what the forge remembers of names and passwords."""

    async def decide(self, request: Request, db: AsyncSession) -> Allowed | Denied:
        """Raises `TooManyRequests` for an address that keeps presenting wrong passwords."""
        asked = parse(request.headers.get("x-original-uri", ""))
        if asked is None:
            return Denied(404, NOT_FOUND)
        header = request.headers.get("authorization", "")
        who = await self._by_basic(request, db, header, is_push=asked.is_push) if header else NOBODY
        if who is None:
            return Denied(401, DENIED)
        if who.user is not None and (reason := refusal_of(who.user)) is not None:
            return Denied(403, reason)
        if (await current_values(db)).enabled_git_access_protocol == "ssh":
            return Denied(403, NO_HTTP)
        project = await find_project(db, asked.project) if "/" in asked.project else None
        if who.deploy_token is not None and (project is None or not reaches(who.deploy_token, project)):
            return Denied(401, DENIED)
        standing = await standing_of(db, who, project) if project is not None else None
        return _judge(asked, who, project, standing)

    async def _by_basic(
        self, request: Request, db: AsyncSession, header: str, *, is_push: bool
    ) -> Principal | None:
        """None: the credentials are wrong, or the token is not for git."""
        pair = credentials(header)
        who = await forge_of(request).basic.identify(request, db, *pair) if pair is not None else None
        if who is None or who.job is not None:
            return who
        if who.deploy_token is not None and is_push:
            return who  # no deploy token pushes: told below that it may not
        scopes = ("api", "write_repository") if is_push else ("api", "read_repository", "write_repository")
        return who if who.has_scope(*scopes) else None


def _judge(
    asked: GitRequest, who: Principal, project: Project | None, standing: Standing | None
) -> Allowed | Denied:
    """Nobody is asked for credentials wherever the answer would be no: existence is not told."""
    if project is None or standing is None or not standing.can(Ability.READ_PROJECT):
        return Denied(401, DENIED) if who.is_nobody else Denied(404, NOT_FOUND)
    wanted = Ability.PUSH_CODE if asked.is_push else Ability.READ_CODE
    is_job_push = asked.is_push and standing.level >= Level.DEVELOPER and may_job_push(who, project)
    if standing.can(wanted) or is_job_push:
        return Allowed(project, who, asked.is_push)
    if who.is_nobody:
        return Denied(401, DENIED)
    if asked.is_push and project.is_archived:
        return Denied(403, ARCHIVED)
    if who.deploy_token is not None and asked.is_push:
        return Denied(403, NO_UPLOAD)
    return Denied(403, NO_PUSH if asked.is_push else NO_DOWNLOAD)


def may_job_push(who: Principal, project: Project) -> bool:
    """A job may push to its own project where the project says so."""
    own = who.job is not None and who.job.project_id == project.id and not project.is_archived
    return own and bool(attribute(project, "ci_push_repository_for_job_token_allowed"))
