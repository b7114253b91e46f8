"""May this git request through? The question of the gateway's `auth_request`, with GitLab's answers.

Source: gitlabhq app/controllers/repositories/git_http_client_controller.rb, lib/gitlab/git_access.rb (messages),
doc/topics/git/clone.md; Basic credentials as in lib/gitlab/auth.rb (`find_for_git_client`).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.auth import NOBODY, Principal, by_job_token, by_token
from nautilus_forge.db.models import Project
from nautilus_forge.errors import InvalidToken
from nautilus_forge.http import client_address
from nautilus_forge.policy import Ability, Standing
from nautilus_forge.projects.access import find_project, standing_of
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.users.signing_in import RecentSuccesses, Throttle, check_password

_PATH = re.compile(r"/(?P<project>.+?)\.git/(?P<what>info/refs|git-upload-pack|git-receive-pack)")
_SERVICES = ("git-upload-pack", "git-receive-pack")
_DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password. If a token was provided, it was either incorrect, "
    "expired, or improperly scoped."
)
_NOT_FOUND = "The project you were looking for could not be found or you don't have permission to view it."
_NO_PUSH = "You are not allowed to push code to this project."
_NO_DOWNLOAD = "You are not allowed to download code from this project."
_ARCHIVED = "You can't push code to a read-only GitLab instance."


@dataclass(frozen=True)
class GitRequest:
    """`is_push`: would change the repository."""

    project: str
    is_push: bool


@dataclass(frozen=True)
class Allowed:
    project: Project
    who: Principal


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


class GitGate:
    """Decides, and remembers right passwords for a minute and failures by address."""

    def __init__(self) -> None:
        self._recent = RecentSuccesses()
        self._throttle = Throttle()

    async def decide(self, request: Request, db: AsyncSession) -> Allowed | Denied:
        """Raises `TooManyRequests` for an address that keeps presenting wrong passwords."""
        asked = parse(request.headers.get("x-original-uri", ""))
        if asked is None:
            return Denied(404, _NOT_FOUND)
        header = request.headers.get("authorization", "")
        who = await self._by_basic(request, db, header, is_push=asked.is_push) if header else NOBODY
        if who is None:
            return Denied(401, _DENIED)
        if who.user is not None and who.user.state != "active":
            return Denied(403, "Your account has been blocked.")
        project = await find_project(db, asked.project) if "/" in asked.project else None
        standing = await standing_of(db, who, project) if project is not None else None
        return _judge(asked, who, project, standing)

    async def _by_basic(
        self, request: Request, db: AsyncSession, header: str, *, is_push: bool
    ) -> Principal | None:
        """None: the credentials are wrong."""
        name_and_password = _basic(header)
        if name_and_password is None:
            return None
        name, password = name_and_password
        if name == "gitlab-ci-token":
            return await by_job_token(request, db, password)
        try:
            who = await by_token(db, password)
        except InvalidToken:
            return None
        if who is not None:
            scopes = (
                ("api", "write_repository") if is_push else ("api", "read_repository", "write_repository")
            )
            return who if who.has_scope(*scopes) else None
        return await self._by_password(request, db, name, SecretStr(password))

    async def _by_password(
        self, request: Request, db: AsyncSession, name: str, password: SecretStr
    ) -> Principal | None:
        if not name or name == "oauth2":
            return None
        address = client_address(request)
        self._throttle.require_room(address)
        user = await check_password(db, name, password, self._recent)
        if user is None:
            self._throttle.note_failure(address)
            return None
        return Principal(user=user)


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    if not colon or not password or "\0" in text:
        return None
    return name, password


def _judge(
    asked: GitRequest, who: Principal, project: Project | None, standing: Standing | None
) -> Allowed | Denied:
    """Nobody is asked for credentials wherever the answer would be no: existence is not told."""
    if project is None or standing is None or not standing.can(Ability.READ_PROJECT):
        return Denied(404, _NOT_FOUND) if who.user is not None else Denied(401, _DENIED)
    wanted = Ability.PUSH_CODE if asked.is_push else Ability.READ_CODE
    if standing.can(wanted) or (asked.is_push and _may_job_push(who, project)):
        return Allowed(project, who)
    if who.user is None:
        return Denied(401, _DENIED)
    if asked.is_push and project.is_archived:
        return Denied(403, _ARCHIVED)
    return Denied(403, _NO_PUSH if asked.is_push else _NO_DOWNLOAD)


def _may_job_push(who: Principal, project: Project) -> bool:
    """A job may push to its own project where the project says so."""
    own = who.job is not None and who.job.project_id == project.id and not project.is_archived
    return own and bool(attribute(project, "ci_push_repository_for_job_token_allowed"))
