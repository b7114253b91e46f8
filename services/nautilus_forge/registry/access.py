"""What a token for the registry may allow: the judgement behind `/jwt/auth`.

Source: gitlabhq app/services/auth/container_registry_authentication_service.rb, lib/gitlab/auth.rb
(`abilities_for_scopes`, `build_authentication_abilities`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.auth import Principal
from nautilus_forge.db.models import ContainerRepository, OAuthToken, Project
from nautilus_forge.policy import Ability, Standing
from nautilus_forge.projects.access import find_project, standing_of
from nautilus_forge.registry.paths import candidates, name_below, normalised

PULL, PUSH, DELETE, ALL = "pull", "push", "delete", "*"
_GOING = ("delete_scheduled", "delete_ongoing")

_FULL = frozenset({PULL, PUSH, ALL})
_BY_SCOPE = {
    "api": _FULL,
    "read_api": frozenset({PULL}),
    "read_registry": frozenset({PULL}),
    "write_registry": frozenset({PUSH}),
}
_OF_USER = {
    PULL: (PULL, Ability.READ_IMAGE),
    PUSH: (PUSH, Ability.CREATE_IMAGE),
    DELETE: (ALL, Ability.ADMIN_IMAGE),
    ALL: (ALL, Ability.ADMIN_IMAGE),
}
"""Action → what the credentials must be good for, and what their user must be allowed to do."""

_OF_JOB = {PULL: Ability.READ_IMAGE, PUSH: Ability.CREATE_IMAGE, DELETE: Ability.DESTROY_IMAGE}


@dataclass(frozen=True)
class Caller:
    """Who asks, and what the credentials (not the person) are good for: of `pull`, `push`, `*`.

    `kind`: GitLab's name for the credentials, which goes into the token.
    """

    who: Principal
    kind: str
    grants: frozenset[str]

    @classmethod
    def of(cls, who: Principal) -> Caller:
        if who.job is not None:
            return cls(who, "build", _FULL)
        if who.deploy_token is not None:
            return cls(who, "deploy_token", _granted(who.deploy_token.scopes))
        if who.user is None:
            return cls(who, "none", frozenset({PULL}))
        if who.scopes is None:
            return cls(who, "gitlab_or_ldap", _FULL)
        kind = "oauth" if isinstance(who.token, OAuthToken) else "personal_access_token"
        return cls(who, kind, _granted(who.scopes))


def _granted(scopes: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(_BY_SCOPE.get(scope, ()) for scope in scopes))


async def grant(db: AsyncSession, caller: Caller, scope: str) -> dict[str, Any] | None:
    """The entry of `access` for one `type:name:action,action`; None where nothing of it is allowed.

    A token to push makes the repository's row.
    """
    kind, _, rest = scope.partition(":")
    name, colon, listed = rest.rpartition(":")
    actions = list(dict.fromkeys(action for action in listed.split(",") if action))
    if not colon or not actions:
        return None
    if kind == "registry":
        return _catalog(caller, name, actions)
    if kind == "repository" and (path := normalised(name)) is not None:
        return await _repository(db, caller, path, actions)
    return None


def _catalog(caller: Caller, name: str, actions: list[str]) -> dict[str, Any] | None:
    user = caller.who.user
    is_admin = user is not None and user.is_admin and caller.who.job is None and ALL in caller.grants
    if not is_admin or name != "catalog" or actions != [ALL]:
        return None
    return {"type": "registry", "name": name, "actions": actions}


async def _repository(
    db: AsyncSession, caller: Caller, path: str, actions: list[str]
) -> dict[str, Any] | None:
    project = await _project_of(db, path)
    if project is None:
        return None
    row = await db.scalar(select(ContainerRepository).where(ContainerRepository.path == path))
    if row is not None and row.project_id != project.id:
        return None
    standing = await standing_of(db, caller.who, project)
    allowed = [action for action in actions if may(caller, standing, action)]
    if row is not None and row.status in _GOING:
        allowed = [action for action in allowed if action == PULL]
    if not allowed:
        return None
    if row is None and PUSH in allowed:
        await _make_row(db, project, path)
    meta = {
        "project_path": project.path_with_namespace.lower(),
        "project_id": project.id,
        "root_namespace_id": await _root_namespace_id(db, project),
    }
    return {"type": "repository", "name": path, "actions": allowed, "meta": meta}


def may(caller: Caller, standing: Standing, action: str) -> bool:
    """Whether credentials and person together may do one action. Unknown actions are nobody's."""
    if caller.who.job is not None:
        return action in _OF_JOB and standing.can(_OF_JOB[action])
    needed, ability = _OF_USER.get(action, (None, None))
    return ability is not None and needed in caller.grants and standing.can(ability)


async def _project_of(db: AsyncSession, path: str) -> Project | None:
    for full_path in candidates(path):
        if (project := await find_project(db, full_path)) is not None:
            return project
    return None


async def _make_row(db: AsyncSession, project: Project, path: str) -> None:
    name = name_below(path, project.path_with_namespace)
    values = {"project_id": project.id, "name": name, "path": path}
    await db.execute(insert(ContainerRepository).values(values).on_conflict_do_nothing())


async def _root_namespace_id(db: AsyncSession, project: Project) -> int:
    namespace = project.namespace
    while namespace.parent_id is not None:
        namespace = await db.get_one(type(namespace), namespace.parent_id)
    return namespace.id
