"""Making and changing groups.

Source: gitlabhq app/services/groups/{create,update}_service.rb, app/models/group.rb (validations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nautilus_forge.appsettings.values import current_values
from nautilus_forge.db.models import Member, Namespace, Project, User
from nautilus_forge.db.models.namespace import NamespaceKind
from nautilus_forge.errors import BadRequest, InvalidRecord
from nautilus_forge.forge import Forge
from nautilus_forge.groups import naming
from nautilus_forge.groups.attributes import attribute
from nautilus_forge.groups.inheritance import spread_shared_runners
from nautilus_forge.groups.queries import below
from nautilus_forge.namespaces import visibility as allowed
from nautilus_forge.policy import Level, is_more_open
from nautilus_forge.registry import renaming

Problems = dict[str, list[str]]

_COLUMNS = ("name", "description", "visibility")
_TAKEN = ["has already been taken"]


async def create_group(
    db: AsyncSession, *, creator: User, parent: Namespace | None, given: dict[str, Any]
) -> Namespace:
    """A group whose owner is the creator, by membership in it or in the groups above. Raises `BadRequest`.

    `given`: columns and attributes as the API names them, with `name` and `path`.
    """
    given = dict(given)
    name, path = given.pop("name").strip(), given.pop("path")
    settings = await current_values(db)
    visibility = given.pop("visibility", None) or allowed.default_in(
        parent, settings.default_group_visibility
    )
    given.setdefault("project_creation_level", settings.default_project_creation_level)
    if parent is not None:
        given.setdefault("shared_runners_setting", attribute(parent, "shared_runners_setting"))
    problems = await _problems(db, parent, name=name, path=path)
    problems |= _visibility_problems(creator, visibility, parent, settings.restricted_visibility_levels)
    if problems:
        raise _not_saved(problems)
    group = Namespace(
        kind=NamespaceKind.GROUP,
        name=name,
        path=path,
        full_path=f"{parent.full_path}/{path}" if parent is not None else path,
        parent_id=parent.id if parent is not None else None,
        visibility=visibility,
        attributes={},
    )
    apply(group, given)
    db.add(group)
    try:
        await db.flush()
    except IntegrityError as error:
        raise _not_saved({"path": _TAKEN}) from error
    db.add(
        Member(user_id=creator.id, namespace_id=group.id, access_level=Level.OWNER, created_by_id=creator.id)
    )
    await db.flush()
    await db.refresh(group)
    return group


def _not_saved(problems: Problems) -> BadRequest:
    """Ruby's way of writing the problems. Source: lib/api/groups.rb (`Failed to save group …`)."""
    pairs = ", ".join(f":{name}=>[{', '.join(map(_ruby, texts))}]" for name, texts in problems.items())
    return BadRequest(message=f"Failed to save group {{{pairs}}}")


def _ruby(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def apply(group: Namespace, given: dict[str, Any]) -> None:
    """Set columns and attributes; a value of None resets an attribute to its default."""
    attributes = dict(group.attributes)
    for name, value in given.items():
        if name in _COLUMNS:
            if value is not None:
                setattr(group, name, value)
        elif name == "emails_disabled":
            attributes["emails_enabled"] = not value
        elif value is None:
            attributes.pop(name, None)
        else:
            attributes[name] = value
    group.attributes = attributes


async def change_group(
    db: AsyncSession, forge: Forge, user: User, group: Namespace, given: dict[str, Any]
) -> None:
    """A new path moves everything below with it, but no repository. Raises `InvalidRecord`."""
    given = dict(given)
    name, path = given.pop("name", None), given.pop("path", None)
    parent = await db.get(Namespace, group.parent_id) if group.parent_id is not None else None
    problems = await _problems(db, parent, name=name, path=path, but=group)
    visibility = given.get("visibility")
    if visibility is not None and visibility != group.visibility:
        settings = await current_values(db)
        problems |= _visibility_problems(user, visibility, parent, settings.restricted_visibility_levels)
        problems |= await _problems_below(db, group, visibility)
    if problems:
        raise InvalidRecord(problems)
    if name is not None:
        group.name = name.strip()
    apply(group, given)
    if "shared_runners_setting" in given:
        await spread_shared_runners(db, group, parent)
    if path is not None and path != group.path:
        await _move(db, forge, group, parent, path)
    await db.flush()
    await db.refresh(group)


async def _move(
    db: AsyncSession, forge: Forge, group: Namespace, parent: Namespace | None, path: str
) -> None:
    """Source: app/services/groups/update_service.rb (`renaming_group_with_container_registry_images?`)."""
    projects = select(Project).join(Namespace, Namespace.id == Project.namespace_id).where(below(group))
    inside = list((await db.scalars(projects)).unique().all())
    if await renaming.has_tags(db, forge, [project.id for project in inside]):
        raise InvalidRecord(
            {
                "base": [
                    "Cannot update the path because there are projects under this group that contain Docker "
                    "images in their Container Registry. Please remove the images from your projects first "
                    "and try again."
                ]
            }
        )
    new = f"{parent.full_path}/{path}" if parent is not None else path
    rest = func.substr(Namespace.full_path, len(group.full_path) + 1)
    group.path = path
    await db.flush()
    try:
        await db.execute(update(Namespace).where(below(group)).values(full_path=new + rest))
    except IntegrityError as error:
        raise InvalidRecord({"path": _TAKEN}) from error
    for project in inside:
        await db.refresh(project.namespace, ["full_path"])
        await renaming.follow(db, project)


async def _problems(
    db: AsyncSession,
    parent: Namespace | None,
    *,
    name: str | None,
    path: str | None,
    but: Namespace | None = None,
) -> Problems:
    """What is wrong with a name and a path (None: they stay) below a parent; `but`: the group itself."""
    problems: Problems = {}
    if name is not None and (found := naming.name_problems(name)):
        problems["name"] = found
    if path is not None and (but is None or path != but.path):
        if found := naming.path_problems(path, is_top=parent is None):
            problems["path"] = found
        elif await _is_taken(db, parent, path, but):
            problems["path"] = _TAKEN
    if name is not None and parent is not None and await _is_name_taken(db, parent, name, but):
        problems.setdefault("name", _TAKEN)
    if but is None and parent is not None and len(parent.traversal_ids) > naming.DEEPEST:
        problems["parent_id"] = ["has too deep level of nesting"]
    return problems


async def _is_taken(db: AsyncSession, parent: Namespace | None, path: str, but: Namespace | None) -> bool:
    full_path = f"{parent.full_path}/{path}" if parent is not None else path
    statement = select(Namespace.id).where(func.lower(Namespace.full_path) == full_path.lower())
    if but is not None:
        statement = statement.where(Namespace.id != but.id)
    if await db.scalar(statement) is not None:
        return True
    if parent is None:
        user = select(User.id).where(func.lower(User.username) == path.lower())
        return await db.scalar(user) is not None
    project = select(Project.id).where(
        Project.namespace_id == parent.id, func.lower(Project.path) == path.lower()
    )
    return await db.scalar(project) is not None


async def _is_name_taken(db: AsyncSession, parent: Namespace, name: str, but: Namespace | None) -> bool:
    statement = select(Namespace.id).where(
        Namespace.parent_id == parent.id, Namespace.name == name.strip(), Namespace.deleted_at.is_(None)
    )
    if but is not None:
        statement = statement.where(Namespace.id != but.id)
    return await db.scalar(statement) is not None


def _visibility_problems(
    user: User, visibility: str, parent: Namespace | None, restricted: Sequence[str]
) -> Problems:
    found = allowed.restriction(user, visibility, restricted) or allowed.problems_of_group(parent, visibility)
    return {"visibility_level": found} if found else {}


async def _problems_below(db: AsyncSession, group: Namespace, visibility: str) -> Problems:
    """What the group holds may not be more open than the group."""
    projects = select(Project.visibility).where(
        Project.namespace_id == group.id, Project.deleted_at.is_(None)
    )
    for held in await db.scalars(projects.distinct()):
        if is_more_open(held, visibility):
            return {
                "visibility_level": [
                    f"{visibility} is not allowed since this group contains projects with higher visibility."
                ]
            }
    subgroups = select(Namespace.visibility).where(
        Namespace.parent_id == group.id, Namespace.deleted_at.is_(None)
    )
    for held in await db.scalars(subgroups.distinct()):
        if is_more_open(held, visibility):
            return {
                "visibility_level": [
                    f"{visibility} is not allowed since there are sub-groups with higher visibility."
                ]
            }
    return {}
