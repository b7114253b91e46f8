"""May this key do this to this project? GitLab's `/internal/allowed` for SSH, with its messages.

Source: gitlabhq lib/api/internal/base.rb, lib/gitlab/git_access.rb, lib/gitlab/deploy_key_access.rb.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.auth import Principal, refusal_of
from nautilus_forge.db.models import Key, Project, User
from nautilus_forge.internal.git_access import (
    ARCHIVED,
    BLOCKED,
    NO_DOWNLOAD,
    NO_PUSH,
    NO_SSH,
    NOT_FOUND,
    Denied,
)
from nautilus_forge.keys.deploy_keys import link_of
from nautilus_forge.keys.service import is_expired, owner_of
from nautilus_forge.policy import Ability
from nautilus_forge.projects.access import find_project, standing_of

READING = frozenset({"git-upload-pack", "git-upload-archive"})
WRITING = frozenset({"git-receive-pack"})

_EXPIRED = "Your SSH key has expired."
_UNKNOWN_KEY = "Could not find the given key"
_NO_DEPLOY_PUSH = "This deploy key does not have write access to this project."


@dataclass(frozen=True)
class Granted:
    """`user`: whose key it is; of a deploy key, who made it (None when he is gone)."""

    project: Project
    key: Key
    user: User | None


async def decide(db: AsyncSession, key_id: int, command: str, path: str) -> Granted | Denied:
    """`command`: one of READING and WRITING. `path`: the project's, without `.git`."""
    key = await db.get(Key, key_id)
    if key is None:
        return Denied(401, _UNKNOWN_KEY)
    user = await owner_of(db, key)
    if is_expired(key):
        return Denied(401, _EXPIRED)
    if (await current_values(db)).enabled_git_access_protocol == "http":
        return Denied(401, NO_SSH)
    project = await find_project(db, path) if "/" in path else None
    if key.is_deploy_key:
        return await _of_deploy_key(db, key, user, project, is_push=command in WRITING)
    if user is None:
        return Denied(401, BLOCKED)
    if (reason := refusal_of(user)) is not None:
        return Denied(401, reason)
    return await _of_user(db, key, user, project, is_push=command in WRITING)


async def _of_user(
    db: AsyncSession, key: Key, user: User, project: Project | None, *, is_push: bool
) -> Granted | Denied:
    standing = await standing_of(db, Principal(user=user), project) if project is not None else None
    if project is None or standing is None or not standing.can(Ability.READ_PROJECT):
        return Denied(404, NOT_FOUND)
    if standing.can(Ability.PUSH_CODE if is_push else Ability.READ_CODE):
        return Granted(project, key, user)
    if is_push and project.is_archived:
        return Denied(401, ARCHIVED)
    return Denied(401, NO_PUSH if is_push else NO_DOWNLOAD)


async def _of_deploy_key(
    db: AsyncSession, key: Key, creator: User | None, project: Project | None, *, is_push: bool
) -> Granted | Denied:
    """What it may do hangs on the key alone, whatever has become of who made it."""
    link = await link_of(db, project.id, key.id) if project is not None else None
    if project is None or link is None:
        return Denied(404, NOT_FOUND)
    if is_push and not link.can_push:
        return Denied(401, _NO_DEPLOY_PUSH)
    if is_push and project.is_archived:
        return Denied(401, ARCHIVED)
    return Granted(project, key, creator)
