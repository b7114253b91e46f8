"""Deploy keys: which project each is for, and who may join it to another.

Source: doc/user/project/deploy_keys/_index.md, gitlabhq app/models/{deploy_key,deploy_keys_project}.rb.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.db.models import DeployKeyProject, Key, Project, User
from nautilus_forge.keys.public_key import NotAPublicKey, parse
from nautilus_forge.keys.service import NewKey, store
from nautilus_forge.keys.validation import valid_key
from nautilus_forge.policy import Level
from nautilus_forge.projects.access import level_of

_PREFIX = "deploy_key."
"""GitLab's name for the fields of a deploy key that is made together with its place in a project."""


async def add_public(db: AsyncSession, creator: User, new: NewKey) -> Key:
    """A deploy key of the whole instance. Raises `InvalidRecord`."""
    public = valid_key(new.text, new.title, new.expires_at)
    return await store(db, Key(creator_id=creator.id, is_deploy_key=True, is_public=True), public, new)


async def add_to_project(
    db: AsyncSession, project: Project, user: User, new: NewKey, *, can_push: bool
) -> tuple[DeployKeyProject, Key]:
    """Join the key, made where nobody knows it yet; one that the project has already stays as it is.

    Raises `InvalidRecord`, also for a key that is somebody else's.
    """
    known = await _same_key(db, new.text)
    if known is not None and (link := await link_of(db, project.id, known.id)) is not None:
        return link, known
    if known is None or not await _may_use(db, user, known):
        public = valid_key(new.text, new.title, new.expires_at, _PREFIX)
        known = await store(db, Key(creator_id=user.id, is_deploy_key=True), public, new, _PREFIX)
    return await _join(db, project, known, can_push=can_push), known


async def enable(db: AsyncSession, project: Project, user: User, key_id: int) -> Key | None:
    """Join a deploy key that the user may use elsewhere; None where there is none such."""
    key = await db.get(Key, key_id)
    if key is None or not key.is_deploy_key or not await _may_use(db, user, key):
        return None
    if await link_of(db, project.id, key.id) is None:
        await _join(db, project, key, can_push=False)
    return key


async def _join(db: AsyncSession, project: Project, key: Key, *, can_push: bool) -> DeployKeyProject:
    link = DeployKeyProject(deploy_key_id=key.id, project_id=project.id, can_push=can_push)
    db.add(link)
    await db.flush()
    return link


async def link_of(db: AsyncSession, project_id: int, key_id: int) -> DeployKeyProject | None:
    return await db.scalar(
        select(DeployKeyProject).where(
            DeployKeyProject.project_id == project_id, DeployKeyProject.deploy_key_id == key_id
        )
    )


async def projects_of(
    db: AsyncSession, key_ids: Sequence[int]
) -> dict[int, list[tuple[DeployKeyProject, Project]]]:
    """The projects of each key."""
    found: dict[int, list[tuple[DeployKeyProject, Project]]] = {key_id: [] for key_id in key_ids}
    statement = (
        select(DeployKeyProject, Project)
        .join(Project, Project.id == DeployKeyProject.project_id)
        .where(DeployKeyProject.deploy_key_id.in_(key_ids), Project.deleted_at.is_(None))
        .order_by(DeployKeyProject.id)
    )
    for link, project in (await db.execute(statement)).unique():
        found[link.deploy_key_id].append((link, project))
    return found


def all_deploy_keys(*, only_public: bool) -> Select[Key]:
    statement = select(Key).where(Key.is_deploy_key).order_by(Key.id)
    return statement.where(Key.is_public) if only_public else statement


async def may_rename(db: AsyncSession, user: User, key: Key) -> bool:
    """A public key is the administrators'; another's title is for whoever keeps all projects that have it."""
    if user.is_admin:
        return True
    if key.is_public:
        return False
    joined = (await projects_of(db, [key.id]))[key.id]
    return all([await level_of(db, user, project) >= Level.MAINTAINER for _, project in joined])


async def _same_key(db: AsyncSession, text: str) -> Key | None:
    try:
        digest = parse(text).sha256
    except NotAPublicKey:
        return None
    return await db.scalar(select(Key).where(Key.fingerprint_sha256 == digest, Key.is_deploy_key))


async def _may_use(db: AsyncSession, user: User, key: Key) -> bool:
    """Public ones, and those of projects that the user keeps. Source: User#accessible_deploy_keys."""
    if key.is_public:
        return True
    joined = (await projects_of(db, [key.id]))[key.id]
    return any([await level_of(db, user, project) >= Level.MAINTAINER for _, project in joined])


def keys_of_project(project_id: int) -> Select[DeployKeyProject, Key, User]:
    """Each link with its key and who made it (None when he is gone)."""
    return (
        select(DeployKeyProject, Key, User)
        .join(Key, Key.id == DeployKeyProject.deploy_key_id)
        .outerjoin(User, User.id == Key.creator_id)
        .where(DeployKeyProject.project_id == project_id)
        .order_by(DeployKeyProject.id)
    )
