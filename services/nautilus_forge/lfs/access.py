"""Who comes for a project's LFS objects, and what he may do there.

The same credentials as for git (name and password, personal access, OAuth, deploy and job tokens), and the tokens
of `lfs.token`. GitLab tells a project's existence only to those who may read its code.

Source: gitlabhq app/controllers/concerns/lfs_request.rb, app/controllers/repositories/git_http_client_controller.rb.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from nautilus_forge.auth import NOBODY, Principal
from nautilus_forge.basic_auth import credentials
from nautilus_forge.db.dependency import forge_of
from nautilus_forge.db.models import Key, Project, User
from nautilus_forge.deploy_tokens.service import reaches
from nautilus_forge.internal.git_access import DENIED, Denied, may_job_push
from nautilus_forge.keys.deploy_keys import link_of
from nautilus_forge.keys.service import is_expired
from nautilus_forge.lfs import token as tokens
from nautilus_forge.lfs.answers import LfsForbidden, LfsNotFound
from nautilus_forge.lfs.token import LfsGrant, Operation
from nautilus_forge.policy import Ability, Level, Standing
from nautilus_forge.projects.access import find_project, standing_of
from nautilus_forge.projects.attributes import attribute
from nautilus_forge.spool import is_spooled

_FOR_GIT = ("api", "read_repository", "write_repository")
_FOR_WRITING = ("api", "write_repository")


@dataclass(frozen=True)
class Caller:
    """Somebody who may at least download. `is_himself`: by a credential of his own that is not yet a token of ours
    (`who` is the user then). `is_public`: everybody may download.
    """

    project: Project
    who: Principal
    can_upload: bool
    can_unlock_all: bool = False
    is_public: bool = False
    is_himself: bool = False


@dataclass(frozen=True)
class _Proof:
    """`limit`: what a token was made for, None for everything. `deploy_key_id`: not 0 for a deploy key."""

    who: Principal
    limit: LfsGrant | None = None
    deploy_key_id: int = 0


async def admitted(request: Request, db: AsyncSession, path: str, *, is_upload: bool) -> Caller | Denied:
    """`Denied`: a 401. `path`: the project's. Raises `LfsNotFound`, `LfsForbidden`, `TooManyRequests`."""
    header = request.headers.get("authorization", "")
    proof = await _proof(request, db, header) if header else _Proof(NOBODY)
    if proof is None:
        return Denied(401, DENIED)
    project = await find_project(db, path) if "/" in path else None
    deploy_token = proof.who.deploy_token
    if deploy_token is not None and (project is None or not reaches(deploy_token, project)):
        return Denied(401, DENIED)
    caller = await _caller(db, proof, project) if project is not None else None
    if not header and (caller is None or is_upload):
        return Denied(401, DENIED)
    if caller is None:
        raise LfsNotFound(request)
    if is_upload and not caller.can_upload:
        raise LfsForbidden(request)
    return caller


async def _proof(request: Request, db: AsyncSession, header: str) -> _Proof | None:
    pair = credentials(header)
    if pair is None:
        return None
    if pair[1].startswith(tokens.PREFIX):
        return await _by_lfs_token(request, db, pair[1])
    who = await forge_of(request).basic.identify(request, db, *pair)
    if who is None or (who.user is not None and who.user.state != "active"):
        return None
    return _Proof(who) if who.job is not None or who.has_scope(*_FOR_GIT) else None


async def _by_lfs_token(request: Request, db: AsyncSession, token: str) -> _Proof | None:
    """A body that the gateway has taken in was authorised when it began, however long it took."""
    grant = tokens.verified(forge_of(request).secret_key, token)
    if grant is None or (grant.is_expired() and not is_spooled(request)):
        return None
    if key_id := grant.key_id or grant.deploy_key_id:
        key = await db.get(Key, key_id)
        if key is None or is_expired(key):
            return None
    if grant.deploy_key_id:
        return _Proof(NOBODY, grant, grant.deploy_key_id)
    user = await db.get(User, grant.user_id)
    return _Proof(Principal(user=user), grant) if user is not None and user.state == "active" else None


async def _caller(db: AsyncSession, proof: _Proof, project: Project) -> Caller | None:
    """None: may not even download, or there is no LFS in the project."""
    if not attribute(project, "lfs_enabled"):
        return None
    if proof.limit is not None and proof.limit.project_id != project.id:
        return None
    if proof.deploy_key_id:
        return await _by_deploy_key(db, proof, project)
    standing = await standing_of(db, proof.who, project)
    if not standing.can(Ability.READ_CODE):
        return None
    who = proof.who
    return Caller(
        project,
        who,
        can_upload=_may_upload(proof, project, standing),
        can_unlock_all=who.job is None and standing.level >= Level.MAINTAINER,
        is_public=(await standing_of(db, NOBODY, project)).can(Ability.READ_CODE),
        is_himself=who.user is not None and who.job is None and proof.limit is None,
    )


def _may_upload(proof: _Proof, project: Project, standing: Standing) -> bool:
    who = proof.who
    if proof.limit is not None and proof.limit.operation != "upload":
        return False
    if who.job is not None:
        return may_job_push(who, project)
    return who.has_scope(*_FOR_WRITING) and standing.can(Ability.PUSH_CODE)


async def _by_deploy_key(db: AsyncSession, proof: _Proof, project: Project) -> Caller | None:
    link = await link_of(db, project.id, proof.deploy_key_id)
    if link is None or proof.limit is None:
        return None
    can_upload = link.can_push and not project.is_archived and proof.limit.operation == "upload"
    return Caller(project, NOBODY, can_upload)


def transfer_header(request: Request, caller: Caller, operation: Operation) -> tuple[str | None, int | None]:
    """The `Authorization` of the transfers and the seconds that it is good for (None: it is the client's own).

    A user gets a token, so that his own secret is not repeated; a token's caller gets no longer-lived one.
    """
    if caller.is_himself and caller.who.user is not None:
        return header_for_user(request, caller.who.user, caller.project, operation)
    return request.headers.get("authorization") or None, None


def header_for_user(
    request: Request, user: User, project: Project, operation: Operation, key_id: int = 0
) -> tuple[str, int]:
    """The header and the seconds that it is good for. `key_id`: the SSH key that it hangs on."""
    grant = LfsGrant(project.id, operation, tokens.expiry(), user_id=user.id, key_id=key_id)
    return tokens.basic(user.username, tokens.signed(forge_of(request).secret_key, grant)), tokens.LIFETIME_S


def header_for_deploy_key(
    request: Request, key: Key, project: Project, operation: Operation
) -> tuple[str, int]:
    grant = LfsGrant(project.id, operation, tokens.expiry(), deploy_key_id=key.id)
    name = f"lfs+deploy-key-{key.id}"
    return tokens.basic(name, tokens.signed(forge_of(request).secret_key, grant)), tokens.LIFETIME_S
